"""JSON object: the object that a row's text holds, or what is wrong with it: no name twice, no NaN, whole Unicode."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any, NoReturn

from align.data.rows.message import RowError
from align.text.shorten import shorten


def json_object(text: str) -> dict[str, Any] | RowError:
    """The object that the text holds, or what is wrong with it."""
    try:
        value = DECODER.decode(text)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RowError as error:
        return error
    except json.JSONDecodeError as error:
        fault = f"a row must be JSON, but is broken at column {error.colno} ({error.msg})"
        if text.endswith("\n"):
            return RowError(f"{fault}; correct the line", "not_json")
        return RowError(f"{fault} and has no line end: the file seems cut off; fetch or write it again", "cut_off")
    except UnicodeEncodeError as error:
        half = f"half a character ({error.object[error.start]!a})"
        return RowError(f"text must be whole Unicode, but holds {half}; remove it", "lone_surrogate")
    except RecursionError:
        return RowError("a row must not be nested so deeply; flatten it", "too_deep")
    except ValueError as error:  # an int of more than 4,300 digits
        return RowError(f"a row must be JSON that Python can read, but: {error}", "not_json")
    if isinstance(value, dict):
        return value
    return RowError(f"a row must be a JSON object, but is {shorten(text.strip(), 60)}", "not_an_object")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        name = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise RowError(f"a name must stand in an object once, but {name!a} stands twice", "duplicate_key")
    return values


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse_constant(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise RowError(f"a number must be finite, but is {name[:30]}; write null or leave the row out", "not_finite")


DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_refuse_constant)

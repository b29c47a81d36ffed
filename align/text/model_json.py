"""Model JSON: reads the JSON in what a model wrote. Nothing is repaired: what is not exactly JSON is an error.

NaN and infinity are not JSON. The same name twice in an object is refused, since readers take different ones of the
two and a contradiction would be hidden.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal, NoReturn

Fence = Literal["none", "named", "any"]
"""What may stand around the JSON: nothing; a block that opens with ```json on a line of its own; any block, ```json or
bare, whatever white space is in it."""


def whole_json(text: str, fence: Fence = "none") -> Any:
    """The one JSON value that the text is, but for white space around it; with `fence`, or that its only block is.

    Raises:
        ValueError: it is not JSON, holds NaN or infinity, has a name twice in an object, or is nested too deep.
    """
    text = text.strip()
    fenced = _FENCED[fence].fullmatch(text) if fence != "none" else None
    try:
        return _DECODER.decode(fenced["inner"] if fenced else text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def last_object(text: str) -> dict[str, Any] | None:
    """The outermost object that the text's last brace closes, whatever words stand around it; None without one.

    For a model that may think aloud first. An object that is not closed behind it makes the last one unsure: None.
    """
    end = text.rfind("}") + 1
    if not end or "{" in text[end:]:
        return None
    start = text.find("{", 0, end)
    while start != -1:
        try:
            value, stop = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            stop = -1
        if stop == end:
            return value if isinstance(value, dict) else None
        start = text.find("{", max(start + 1, stop), end)
    return None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("an object has the same name twice")
    return values


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_without_repeats, parse_constant=_refuse)
_FENCED = {
    "named": re.compile(r"```json[ \t]*\n(?P<inner>.*)```", re.DOTALL),
    "any": re.compile(r"```(?:json)?\s*(?P<inner>.*)```", re.DOTALL),
}

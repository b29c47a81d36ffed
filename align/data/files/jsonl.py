"""JSONL and `.txt`: the values of a file line by line, what is wrong with a line that has none, and the writer."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from align.data.rows.json_object import json_object
from align.data.rows.message import RowError
from align.errors import DataError


def json_values(path: Path, digest: Any) -> Iterator[tuple[int, Any]]:
    """(Line, JSON object or the `RowError` that stands for it); the bytes read go into `digest`."""
    is_first = True
    for number, line in _text_lines(path, digest):
        if is_first and isinstance(line, str) and line.lstrip().startswith("["):
            text = f"{path}: must hold one JSON object a line, but is one JSON array"
            raise DataError(f"{text}; convert it: jq -c '.[]' {path} > {path.with_name(path.stem + '-rows.jsonl')}")
        is_first = False
        yield number, json_object(line) if isinstance(line, str) else line


def text_values(path: Path, digest: Any) -> Iterator[tuple[int, Any]]:
    """The same for a text file with one prompt a line."""
    for number, line in _text_lines(path, digest):
        if isinstance(line, RowError):
            yield number, line
        elif line.strip():
            yield number, {"prompt": line.strip()}


def write_jsonl(stream: BinaryIO, rows: Iterable[tuple[int, dict[str, Any]]], path: Path) -> None:
    """Write numbered rows, one object a line; `path` is for errors."""
    for number, row in rows:
        stream.write(json_bytes(row, path, number) + b"\n")


def json_bytes(value: Any, path: Path, number: int) -> bytes:
    """The JSON text of row `number`, or of its meta."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: row {number} must hold what JSON can, but: {error}; correct its meta") from error


def _text_lines(path: Path, digest: Any) -> Iterator[tuple[int, str | RowError]]:
    """Each line that is not blank, with its number and its line end."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            digest.update(line)
            if number == 1:
                if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                    text = f"{path}: must be UTF-8, but is UTF-16"
                    output = path.with_name(path.stem + "-utf8" + path.suffix)
                    raise DataError(f"{text}; convert it: iconv -f UTF-16 -t UTF-8 {path} > {output}")
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                yield number, _decoded(line)


def _decoded(line: bytes) -> str | RowError:
    if b"\0" in line:
        text = f"a line must not hold NUL, but does at byte {line.index(0) + 1}"
        return RowError(f"{text}; the file is damaged or not UTF-8: write it again", "nul")
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data" and not line.endswith(b"\n"):
            return RowError("the line ends within a character: the file seems cut off; fetch it again", "cut_off")
        text = f"a line must be UTF-8, but is not at byte {error.start + 1} (0x{line[error.start]:02x})"
    with contextlib.suppress(UnicodeDecodeError):
        line.decode("gb18030")
        text += "; it reads as GB18030: convert the file with iconv -f GB18030 -t UTF-8"
    return RowError(text, "not_utf8")

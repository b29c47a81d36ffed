"""JSON array: the objects of a file that is one array, read one by one, and the writer."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from align.data.files.jsonl import json_bytes
from align.data.rows.json_object import DECODER
from align.data.rows.message import RowError
from align.errors import DataError
from align.text.shorten import quote

_BLOCK = 1 << 20
"""Bytes that are read at a time."""
_SPACES = " \t\r\n"
_PLAIN = json.JSONDecoder()
"""Finds the end of an element that holds what rows may not, such as NaN or a name twice."""


def is_array(path: Path) -> bool:
    """Whether the first sign of the file opens a JSON array."""
    with path.open("rb") as stream:
        return stream.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")


def array_values(path: Path, digest: Any) -> Iterator[tuple[int, Any]]:
    """(Line on which the element begins, object or the `RowError` that stands for it).

    Raises:
        DataError: when the array is broken: the elements after that place cannot be told apart.
    """
    with path.open("rb") as stream:
        text = _Window(stream, path, digest)
        text.expect("[")
        if text.next_sign() == "]":
            return
        while True:
            text.next_sign()
            line = text.line
            yield line, text.element()
            if text.expect(",]") == "]":
                break
        if text.next_sign():
            raise text.fault("ends, but more text follows")


def write_array(stream: BinaryIO, rows: Iterable[tuple[int, dict[str, Any]]], path: Path) -> None:
    """Write numbered rows as one array, an object a line; `path` is for errors."""
    start = b"[\n"
    for number, row in rows:
        stream.write(start + json_bytes(row, path, number))
        start = b",\n"
    stream.write(b"[]\n" if start == b"[\n" else b"\n]\n")


class _Window:
    """The part of the file's text that is not read yet, as far as it is in memory."""

    def __init__(self, stream: BinaryIO, path: Path, digest: Any) -> None:
        self.line = 1
        self._stream, self._path, self._digest = stream, path, digest
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at, self._is_end = "", 0, False

    def next_sign(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACES:
                self.line += self._text[self._at] == "\n"
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if self._is_end:
                return ""
            self._read(_BLOCK)

    def expect(self, signs: str) -> str:
        """Step over the next sign, which must be one of these."""
        sign = self.next_sign()
        if not sign or sign not in signs:
            what = f"{quote(sign)} stands where {' or '.join(signs)} must" if sign else "ends: it seems cut off"
            raise self.fault(what)
        self._at += 1
        return sign

    def element(self) -> Any:
        """Step over the next element."""
        num_bytes = _BLOCK
        while True:
            try:
                value, end = self._decode()
                break
            except json.JSONDecodeError as error:
                rest = self._text[error.pos : error.pos + 80]
                is_open = error.msg.startswith("Unterminated") or len(rest) < 16 or not rest.strip()
                if self._is_end or not is_open:
                    raise self.fault(f"is broken ({error.msg})", self._text.count("\n", self._at, error.pos)) from error
                self._read(num_bytes)
                num_bytes *= 2
        self.line += self._text.count("\n", self._at, end)
        self._at = end
        if isinstance(value, dict | RowError):
            return value
        return RowError(f"a row must be a JSON object, but is {quote(value)}", "not_an_object")

    def fault(self, what: str, num_lines: int = 0) -> DataError:
        """The error of a file that cannot be read on."""
        return DataError(f"{self._path}:{self.line + num_lines}: the JSON array {what}; correct or fetch it again")

    def _decode(self) -> tuple[Any, int]:
        try:
            value, end = DECODER.raw_decode(self._text, self._at)
            if self._text.find("\\u", self._at, end) >= 0:
                json.dumps(value, ensure_ascii=False).encode()
            return value, end
        except RowError as error:
            return error, _PLAIN.raw_decode(self._text, self._at)[1]
        except UnicodeEncodeError as error:
            text = f"text must be whole Unicode, but holds half a character ({error.object[error.start]!a}); remove it"
            return RowError(text, "lone_surrogate"), end
        except json.JSONDecodeError:
            raise
        except (RecursionError, ValueError) as error:  # an int of more than 4,300 digits
            raise self.fault(f"holds what Python cannot read ({error})") from None

    def _read(self, num_bytes: int) -> None:
        data = self._stream.read(num_bytes)
        self._digest.update(data)
        self._is_end = not data
        try:
            new = self._decoder.decode(data, final=self._is_end)
        except UnicodeDecodeError as error:
            text = f"must be UTF-8, but is not ({error.reason}); convert it with iconv -t UTF-8, or fetch it again"
            raise DataError(f"{self._path}: {text}") from error
        self._text, self._at = self._text[self._at :] + new, 0

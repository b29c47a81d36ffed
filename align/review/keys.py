"""Keys: what the person pressed: a single key on a terminal, a line where there is none."""

from __future__ import annotations

import codecs
import os
import sys
import unicodedata
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO


class Keys(Protocol):
    """Where answers come from."""

    def read(self) -> str | None:
        """The next key, lower case; None at the end. What is no single key comes as it is."""

    def forget(self) -> None:
        """Drop what was pressed already: a key from before a pair was shown is no answer to it."""


@contextmanager
def open_keys(stream: TextIO) -> Iterator[Keys]:
    """Single keys without Enter from a terminal, whose own settings come back at the end; else lines."""
    if sys.platform == "win32" or not stream.isatty():
        yield _Lines(stream)
        return
    import termios
    import tty

    number = stream.fileno()
    before = termios.tcgetattr(number)
    tty.setcbreak(number)
    try:
        yield _Presses(number)
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


class _Lines:
    """One answer a line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def read(self) -> str | None:
        line = self._stream.readline()
        return _plain(line.strip()) if line else None

    def forget(self) -> None:
        """A pipe holds the answers in advance."""


class _Presses:
    """One answer a key. Arrows and other keys that send several characters come as one."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._waiting: deque[str] = deque()

    def read(self) -> str | None:
        while not self._waiting:
            data = os.read(self._number, 1024)
            if not data:
                return None
            text = self._decoder.decode(data)
            self._waiting.extend([text] if text.startswith("\x1b") else text)
        key = _plain(self._waiting.popleft())
        return None if key == "\x04" else key  # Ctrl-D

    def forget(self) -> None:
        import termios

        termios.tcflush(self._number, termios.TCIFLUSH)
        self._waiting.clear()


def _plain(key: str) -> str:
    """Full-width letters, as a Chinese keyboard sends them, are letters."""
    return unicodedata.normalize("NFKC", key).lower()

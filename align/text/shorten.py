"""Shorten: how a long text is cut for a person. A cut shows as `…` and splits nothing that is seen as one character."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator


def shorten(text: str, most: int) -> str:
    """The text, or its beginning and `…`: at most `most` characters in all.

    An emoji of several code points, or a letter with its accents, is shown whole or not at all.
    """
    if len(text) <= most:
        return text
    ends = [end for end in _cluster_ends(text[:most]) if end < most]
    return text[: ends[-1] if ends else most - 1] + "…"


def on_one_line(text: str, most: int) -> str:
    """As `shorten`, with one space for every white space."""
    return shorten(" ".join(text.split()), most)


def both_ends(text: str, most: int) -> str:
    """The text, or its beginning and its end with ` … ` between: at most `most` characters of it."""
    if len(text) <= most:
        return text
    half = most // 2
    ends = list(_cluster_ends(text))
    first = max((end for end in ends if end <= half), default=half)
    last = next(end for end in ends if end >= len(text) - half)
    return f"{text[:first]} … {text[last:]}"


def quote(value: object) -> str:
    """Any value as a person may read it in an error, with nothing that a terminal cannot show.

    Of a long one its beginning and its end, with `...` between, as the standard library's `reprlib` cuts.
    """
    text = _SHORT.repr(value)
    return text if text.isprintable() else ascii(text)


def _cluster_ends(text: str) -> Iterator[int]:
    """Where each extended grapheme cluster ends (Unicode Standard Annex 29)."""
    import regex

    return (found.end() for found in regex.finditer(r"\X", text))


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlevel = 3
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 2

"""Numeric answer: 1 where an answer is right by a gold value in its row, 0 where it is wrong; no model judges."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from align.errors import DataError
from align.rewards.base import completion_text
from align.text.normal import ascii_signs

_LATEX = {"{,}": ",", "\\!": "", "\\,": "", "\\$": "$"}
_FRACTION = re.compile(r"([0-9]{0,300})\s*\\[dt]?frac\s*\{?\s*([0-9]{1,300})\s*\}?\s*\{?\s*([0-9]{1,300})\s*\}?")
_NUMBER = re.compile(
    r"""
    (?<![A-Za-z_0-9.])                          # not the end of a word (x2) or of another number
    (?P<sign>(?<![)\]])-)?\$?                   # a minus between two terms is not a sign
    (?P<digits>[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+|(?=\.[0-9]))
    (?P<decimals>\.[0-9]+)?
    (?P<exponent>[eE][+-]?[0-9]{1,3}(?![0-9]))?
    (?:\s*/\s*(?P<divisor>[0-9]+)(?![0-9/]|\.[0-9]))?
    """,
    re.VERBOSE,
)
_MAX_DIGITS = 1000
"""A longer number is noise, and Python refuses to read one of more than 4,300 digits."""


class NumericAnswer:
    """1 when the last number of the completion equals the gold number of its row, 0 when not, None without a gold.

    Where the last number is looked for: in the last `\\boxed{…}`; without one, behind the last `####`; else everywhere.
    It is compared exactly, as a fraction: 3.50, 7/2 and 3.5 are the same, 0.33 is not 1/3.

    - Read as one number: 1,234 · -5 · −5 · $1,234.50 · -$5 · 50% (50, not 0.5) · 3/4 · \\frac{3}{4} · .5 · 1e3 · １２.
    - A comma is a thousands separator only; 1,5 is the two numbers 1 and 5.
    - A minus between two terms is no sign: 10-5 and 2-3 end in 5 and 3.
    - Digits glued to a word before them are part of the word: x2, H2O.
    """

    def __init__(self, column: str = "answer") -> None:
        self.column = column
        """The gold: a number, or text that is read like a completion (`…so he has 7. #### 7`)."""

    def __call__(self, prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:
        """One score a completion.

        Raises:
            DataError: no row has the column, or a gold holds no number (null or blank text means that there is none).
        """
        if self.column not in columns:
            raise DataError(f"no row has the column {self.column!r}; name the one that holds the number with column:")
        golds = [self._gold(value) for value in columns[self.column]]
        return [
            None if gold is None else float(last_number(completion_text(completion)) == gold)
            for gold, completion in zip(golds, completions, strict=True)
        ]

    def _gold(self, value: Any) -> Fraction | None:
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        gold = None if isinstance(value, bool) else last_number(str(value))
        if gold is None:
            raise DataError(f"{self.column} must be a number or text that ends in one, but is {value!r}; or write null")
        return gold


def last_number(text: str) -> Fraction | None:
    """The number that a text ends in, as `NumericAnswer` reads it; None when there is none."""
    text = ascii_signs(text)
    text = _boxed(text) or text.rpartition("####")[2]
    for written, plain in _LATEX.items():
        text = text.replace(written, plain)
    text = _FRACTION.sub(_plain_fraction, text)
    values = [_value(found) for found in _NUMBER.finditer(text)]
    return values[-1] if values else None


def _boxed(text: str) -> str | None:
    """What stands in the last `\\boxed{…}`; None without a closed one."""
    _, opening, rest = text.rpartition("\\boxed{")
    depth = 1 if opening else 0
    for index, letter in enumerate(rest if opening else ""):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if depth == 0:
            return rest[:index]
    return None


def _plain_fraction(found: re.Match[str]) -> str:
    whole, part, divisor = (int(digits or 0) for digits in found.groups())
    return f"{whole * divisor + part}/{divisor}"


def _value(found: re.Match[str]) -> Fraction | None:
    digits, divisor = (found["digits"] or "0").replace(",", ""), found["divisor"] or "1"
    if len(found[0]) > _MAX_DIGITS or not int(divisor):
        return None
    value = Fraction(f"{digits}{found['decimals'] or ''}{found['exponent'] or ''}") / int(divisor)
    return -value if found["sign"] else value

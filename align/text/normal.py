"""Normal forms: a text without what does not count when texts, questions, names or numbers are compared or read."""

from __future__ import annotations

import re
import unicodedata

from align.text.scripts import UNSPACED, WIDE_MARKS, without_blanks_beside_unspaced


def normalised(text: str) -> str:
    """The text without what carries no sense: case, width, kind of spaces, and punctuation outside numbers."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text).translate(_HALF_WIDTH)
    text = text.casefold().replace("'", "").replace("’", "").replace("‘", "")
    text = " ".join(_PUNCTUATION.sub(" ", text).split())
    return text if text.isascii() else without_blanks_beside_unspaced(text)


def without_case_and_blanks(text: str) -> str:
    """What two writings of one question have in common: no case, no white space of any kind."""
    return "".join(text.casefold().split())


def name_form(name: str) -> str:
    """A name without case, surplus blanks, and the full stop or colon that a play sets behind it."""
    return " ".join(name.split()).strip(" .:：").casefold()


def ascii_signs(text: str) -> str:
    """Full-width digits, letters and signs as ASCII, and the minus sign (U+2212) as a hyphen; one sign for each."""
    return text.translate(_ASCII)


def plain_quotation_marks(text: str) -> str:
    """English, Chinese and French quotation marks as " and '; one sign for each."""
    return text.translate(_QUOTATION_MARKS)


def plain_blanks(text: str) -> str:
    """LF line ends, a form feed as a line end, full-width and no-break spaces as ordinary ones, no BOM."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n")
    return text.translate({0x3000: " ", 0xA0: " "})


def one_line(text: str) -> str:
    """The words on one line: line ends of a printed page mean nothing, and no space stands between Chinese words."""
    return _BLANK_BESIDE_WIDE.sub("", " ".join(text.split()))


def one_line_with_offsets(text: str) -> tuple[str, list[int]]:
    """As `one_line`, but for white space at both ends, which stays as one space; and where each sign stood before."""
    signs: list[str] = []
    offsets: list[int] = []
    for match in _SPACES_OR_SIGN.finditer(text):
        is_space = match.group().isspace()
        around = text[max(0, match.start() - 1) : match.start()] + text[match.end() : match.end() + 1]
        if not (is_space and _IS_WIDE.search(around)):
            signs.append(" " if is_space else match.group())
            offsets.append(match.start())
    return "".join(signs), offsets


_HALF_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_ASCII: dict[int, int | str] = {**_HALF_WIDTH, 0x2212: "-"}
_QUOTATION_MARKS = str.maketrans(dict.fromkeys("“”„‟«»「」『』〝〞＂", '"') | dict.fromkeys("‘’‚‛＇`´", "'"))

_PUNCTUATION = re.compile(r"[.,:;?\"。、·…—–“”「」《》\u200b\ufeff!](?:(?<=[.,:])(?!\d)|(?<=!)(?![=\w])|(?<=[^.,:!]))")
"""What carries no sense. 1.5, 3:4 and != stay as they are; so do signs that calculate or mark."""

_WIDE = WIDE_MARKS + UNSPACED
_IS_WIDE = re.compile(f"[{_WIDE}]")
_BLANK_BESIDE_WIDE = re.compile(f"(?<=[{_WIDE}]) | (?=[{_WIDE}])")
_SPACES_OR_SIGN = re.compile(r"\s+|\S")

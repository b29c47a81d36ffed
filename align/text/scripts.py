"""Scripts: which characters belong to which script, said once, and what counts as a word where no blanks stand."""

from __future__ import annotations

import re
from typing import Literal

IDEOGRAPHS = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Chinese characters, for a character class."""
KANA = r"\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"
UNSPACED = KANA + IDEOGRAPHS
"""What is written without blanks: each character counts as one word."""
HANGUL = r"\u1100-\u11ff\u3130-\u318f\uac00-\ud7af"
WIDE_MARKS = r"\u3000-\u303f\uff00-\uff65\uffa0-\uffef"
"""Punctuation and signs as wide as a Chinese character, the wide blank included."""
LATIN = r"A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff"

WORD = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+(?:['’-][^\W_{UNSPACED}]+)*")
"""A word of any language, with what an apostrophe or hyphen ties to it."""


WORD_OF = {
    name: re.compile(word)
    for name, word in {
        "han": f"[{UNSPACED}]",
        "thai": "[\u0e00-\u0e7f]",
        "latin": f"[{LATIN}](?:['’-]?[{LATIN}0-9])*",
        "cyrillic": "[\u0400-\u052f]+",
        "greek": "[\u0370-\u03ff]+",
        "hangul": f"[{HANGUL}]+",
        "arabic": "[\u0600-\u06ff\u0750-\u077f]+",
        "hebrew": "[\u0590-\u05ff]+",
        "devanagari": "[\u0900-\u097f]+",
    }.items()
}
"""Script → one word of it, or one character where words are not spaced."""


def words(text: str) -> list[str]:
    """The words of a text in their order."""
    return WORD.findall(text)


def without_blanks_beside_unspaced(text: str) -> str:
    """The text without single blanks before or after a character that is written without them."""
    return _BLANK_BESIDE.sub("", text)


def language_of(text: str) -> Literal["en", "zh"]:
    """`zh` where Chinese characters are at least as many as Latin words, and there is no kana; else `en`."""
    num_chinese, num_latin = len(_IDEOGRAPH.findall(text)), len(_LATIN_WORD.findall(text))
    return "zh" if num_chinese and num_chinese >= num_latin and not _KANA.search(text) else "en"


_BLANK_BESIDE = re.compile(rf"(?<=[{UNSPACED}]) | (?=[{UNSPACED}])")
_IDEOGRAPH, _KANA, _LATIN_WORD = re.compile(f"[{IDEOGRAPHS}]"), re.compile(f"[{KANA}]"), re.compile("[A-Za-z]+")

"""Scripts: which characters are written without blanks, and what a word is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from align.text.scripts import language_of, without_blanks_beside_unspaced, words

PACKAGE = Path(__file__).parents[2] / "align"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It's a well-known fact.", ["It's", "a", "well-known", "fact"]),
        ("我用Python写3行代码", ["我", "用", "Python", "写", "3", "行", "代", "码"]),
        ("𠮷野家 カレー", ["𠮷", "野", "家", "カ", "レ", "ー"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("", []),
    ],
)
def test_a_character_that_is_written_without_blanks_is_a_word(text, found):
    assert words(text) == found


def test_blanks_beside_chinese_go_and_others_stay():
    assert without_blanks_beside_unspaced("用 Python 写 two words") == "用Python写two words"


@pytest.mark.parametrize(
    ("text", "language"),
    [("用Python写代码", "zh"), ("ひらがな漢字漢字", "en"), ("plain", "en"), ("", "en"), ("一 two words", "en")],
)
def test_the_language_of_a_text(text, language):
    assert language_of(text) == language


def test_ranges_of_characters_are_written_down_in_one_place():
    """A second list of Chinese characters would leave out what the first has, or the other way round."""
    ranges = re.compile(r"u(?:3040|3041|3400|4e00|f900|ac00|00020000)-|[぀ぁ㐀一가]-", re.IGNORECASE)
    there = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if ranges.search(path.read_text("utf-8"))}
    assert there == {"text/scripts.py"}

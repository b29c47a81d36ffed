"""Shorten: a cut shows, keeps to its limit, and goes between what a person sees as characters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from align.text.shorten import both_ends, on_one_line, quote, shorten

FAMILY, FLAG, ACCENT = "👩‍👩‍👧", "🇨🇳", "e\u0301"


@given(st.text(), st.integers(1, 20))
def test_a_cut_keeps_to_its_limit_and_shows(text, most):
    short = shorten(text, most)
    assert len(short) <= most
    assert short == text or (short.endswith("…") and text.startswith(short[:-1]))


def test_what_fits_stays_as_it_is():
    assert shorten("four", 4) == "four" and both_ends("four", 4) == "four"
    assert shorten("fours", 4) == "fou…"


@pytest.mark.parametrize("sign", [FAMILY, FLAG, ACCENT, "👍🏽", "각"])
def test_what_is_seen_as_one_character_is_shown_whole_or_not_at_all(sign):
    text = f"ab{sign}{sign}cd"
    for most in range(3, len(text)):
        kept = shorten(text, most)[:-1]
        assert kept in ("ab", f"ab{sign}", f"ab{sign}{sign}", f"ab{sign}{sign}c")
    for most in range(6, len(text)):
        first, last = both_ends(text, most).split(" … ")
        assert first.removeprefix("ab").replace(sign, "") == last.removesuffix("cd").replace(sign, "") == ""


def test_a_heap_of_accents_is_cut_all_the_same():
    heap = "e" + "\u0301" * 50
    assert len(shorten(heap, 10)) == 10
    assert both_ends(heap, 10).endswith(" … ")


def test_one_line_has_one_space_for_every_white_space_and_then_is_cut():
    assert on_one_line(" one\n\ttwo\u3000three ", 20) == "one two three"
    assert on_one_line("one\n\n\n\ntwo", 7) == "one two"
    assert on_one_line("one\n\n\n\ntwo three", 9) == "one two …"


def test_both_ends_of_a_long_text_are_shown():
    assert both_ends("a" * 100 + "b" * 100, 6) == "aaa … bbb"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("text", "'text'"),
        (None, "None"),
        ("好", "'好'"),
        ("a\x1b[2J", r"'a\x1b[2J'"),
        ("\ud800", r"'\ud800'"),
        ("\u200b", r"'\u200b'"),
        ([1, 2, 3], "[1, 2, ...]"),
    ],
)
def test_a_value_is_quoted_so_that_it_steers_no_terminal(value, shown):
    assert quote(value) == shown


def test_of_a_long_value_beginning_and_end_are_quoted():
    shown = quote("a" * 100 + "b" * 100)
    assert len(shown) == 60 and shown.startswith("'aaa") and shown.endswith("bbb'")

"""Normal forms: what does not count goes, everything else stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from align.text.normal import (
    ascii_signs,
    name_form,
    normalised,
    one_line,
    one_line_with_offsets,
    plain_blanks,
    plain_quotation_marks,
    without_case_and_blanks,
)

MIXED = st.text("ab \n\t\u3000好，「」é'\x85\u2028", max_size=30)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("It's  FINE, really!", "its fine really"),
        ("我 用Ｐｙｔｈｏｎ，好。", "我用python好"),
        ("1.5 and 3:4, a != b", "1.5 and 3:4 a != b"),
        ("e\u0301", "é"),
        ("?!", ""),
    ],
)
def test_what_carries_no_sense_goes(text, form):
    assert normalised(text) == form


@pytest.mark.parametrize(
    "form",
    [without_case_and_blanks, name_form, ascii_signs, plain_quotation_marks, one_line],
    ids=lambda one: one.__name__,
)
@given(text=st.text() | MIXED)
def test_a_normal_form_is_its_own(form, text):
    assert form(form(text)) == form(text)


def test_two_writings_of_a_question_are_one():
    assert without_case_and_blanks("What IS\n\tthis?\u3000") == without_case_and_blanks("what is this?")
    assert without_case_and_blanks("What is this?") != without_case_and_blanks("What is this")


@pytest.mark.parametrize("name", ["HAM.", " Ham ", "ham:", "Ham：", "HAM .:"])
def test_a_speaker_is_known_however_the_tag_is_set(name):
    assert name_form(name) == "ham"


def test_full_width_signs_and_the_minus_sign_become_ascii_and_nothing_else_does():
    assert ascii_signs("答案是 −１２．５％，３＋４") == "答案是 -12.5%,3+4"
    assert ascii_signs("x² – 1") == "x² – 1"


def test_line_ends_and_blanks_of_a_file_become_plain():
    assert plain_blanks("\ufeffone\r\ntwo\rthree\ffour\u3000five\xa0six") == "one\ntwo\nthree\nfour five six"


def test_a_printed_page_becomes_one_line():
    assert one_line(" Good\n night,  sweet\tprince. ") == "Good night, sweet prince."
    assert one_line("好妹妹，\n饶我 罢！ Yes") == "好妹妹，饶我罢！Yes"


@given(MIXED)
def test_with_offsets_it_is_the_same_line_and_each_sign_is_where_it_was(text):
    line, offsets = one_line_with_offsets(text)
    assert line.strip() == one_line(text)
    for sign, offset in zip(line, offsets, strict=True):
        assert text[offset] == sign or (sign == " " and text[offset].isspace())


def test_quotation_marks_of_print_become_plain_one_by_one():
    text = "“No,” she said, ‘not «here»’. 「好」"
    assert plain_quotation_marks(text) == '"No," she said, \'not "here"\'. "好"'

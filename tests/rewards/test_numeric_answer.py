"""Verified rewards: which number is read as the answer, and what is said where there is no gold."""

from __future__ import annotations

from fractions import Fraction

import pytest

from align.errors import DataError
from align.rewards.numeric_answer import NumericAnswer, last_number


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The answer is 42.", 42),
        ("10 + 5 = 15.", 15),
        ("1,234,567 people", 1_234_567),
        ("It costs $1,234.50", "1234.5"),
        ("-5", -5),
        ("−5", -5),
        ("-$5", -5),
        ("$-5", -5),
        ("x=-5", -5),
        ("10-5", 5),
        ("pages 2-3", 3),
        ("(3)-5", 5),
        ("50%", 50),
        (r"50\%", 50),
        ("it is 3/4.", "3/4"),
        ("3 / 4", "3/4"),
        (r"\frac{3}{4}", "3/4"),
        (r"-\dfrac{3}{4}", "-3/4"),
        (r"2\frac{1}{2}", "5/2"),
        (r"\frac12", "1/2"),
        (".5", "1/2"),
        ("1e3", 1000),
        ("１２", 12),
        ("−１，２３４．５％", "-1234.5"),
        ("So 7. #### 42", 42),
        ("#### 1 \n#### 42 apples", 42),
        (r"a 1, \boxed{7}, then 9", 7),
        (r"\boxed{\frac{1}{2}} of 3", "1/2"),
        (r"\boxed{6} no, \boxed{7}", 7),
        (r"$\boxed{1{,}234}$", 1234),
        (r"1\,234", 1234),
        ("5 m²", 5),
        ("1,5", 5),
    ],
)
def test_the_last_number_is_read(text, expected):
    assert last_number(text) == Fraction(expected)


@pytest.mark.parametrize("text", ["", "none", "x2", "H2O", "3/0", "9" * 5000, "#### none"])
def test_a_text_without_a_readable_number_has_none(text):
    assert last_number(text) is None


def score(gold, text="It is 7."):
    return NumericAnswer()([[]], [[{"role": "assistant", "content": text}]], answer=[gold])[0]


@pytest.mark.parametrize("gold", [7, 7.0, "7", "He has 3 + 4 = 7 apples. #### 7", "14/2"])
def test_a_right_answer_scores_1_whatever_form_the_gold_has(gold):
    assert score(gold) == 1.0


def test_a_wrong_answer_and_one_without_a_number_score_0():
    assert score(8) == score(7, "seven") == score(7, "") == 0.0


@pytest.mark.parametrize("gold", [None, "", "  "])
def test_a_row_without_a_gold_cannot_be_judged(gold):
    assert score(gold) is None


@pytest.mark.parametrize("gold", ["Paris", True])
def test_a_gold_that_holds_no_number_is_an_error_and_never_scores_0(gold):
    with pytest.raises(DataError, match="answer must be a number"):
        score(gold)


def test_a_column_that_no_row_has_is_an_error():
    with pytest.raises(DataError, match="no row has the column 'answer'"):
        NumericAnswer()([[]], ["7"], gold=[7])


def test_the_column_can_be_named():
    assert NumericAnswer(column="gold")([[]], ["7"], gold=[7]) == [1.0]

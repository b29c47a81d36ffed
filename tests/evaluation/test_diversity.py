"""Diversity: what counts as a word, and that arms are compared over equally many."""

from __future__ import annotations

import math

import pytest

from align.errors import DataError
from align.evaluation.diversity import count_words, distinct_n


def test_distinct_n_takes_equal_words_and_never_spans_answers():
    assert distinct_n(["a b c a b c"]) == 3 / 4
    assert distinct_n(["a b c", "a b c"]) == 1 / 2
    assert distinct_n(["a b c a b c d"], num_words=6) == 3 / 4
    assert distinct_n(["a b c d", "a b c d"], n=2, num_words=6) == 3 / 4
    assert math.isnan(distinct_n(["a b", "c d"]))
    with pytest.raises(DataError, match="at most 3"):
        distinct_n(["a b c"], num_words=4)


@pytest.mark.parametrize(
    ("text", "num"),
    [("It's a well-known fact.", 4), ("你好吗?", 3), ("GPT好 snake_case", 4), ("ありがとう", 5), ("", 0)],
)
def test_words_are_runs_of_letters_or_single_cjk_characters(text, num):
    assert count_words([text]) == num

"""Suspicion: what judges, gates and the text tell, and that nothing told is nothing suspected."""

from __future__ import annotations

import pytest

from align.data.rows.pair import Message, PreferencePair
from align.review.suspicion import NEAR, OTHER, SPLIT, strata_of
from tests.review.making import BAD, GOOD, pair


def texts(better: str, worse: str, prompt: str = "What is the sea like today?", **meta) -> PreferencePair:
    sides = ((Message("assistant", text),) for text in (better, worse))
    return PreferencePair((Message("user", prompt),), *sides, meta)


AGREED = {"winner": "chosen", "votes": {"chosen": 2, "rejected": 0, "tie": 0}, "is_consistent": True, "margin": 0.8}


@pytest.mark.parametrize("meta", [{}, {"judge": None}, {"judge": "gpt"}, {"judge": {}}, {"judge": AGREED}])
def test_an_ordinary_pair_is_not_suspicious_whatever_is_missing(meta):
    assert strata_of([pair(0, **meta)]) == [OTHER]


@pytest.mark.parametrize(
    "changed",
    [
        {"votes": {"chosen": 2, "rejected": 1, "tie": 0}},
        {"votes": {"chosen": 1, "rejected": 0, "tie": 1}},
        {"is_consistent": False},
        {"winner": "rejected"},
        {"winner": "tie"},
    ],
)
def test_judges_that_disagree_make_a_pair_split(changed):
    assert strata_of([pair(0, judge={**AGREED, **changed})]) == [SPLIT]


@pytest.mark.parametrize(
    "suspicious",
    [
        texts(GOOD * 4, BAD),
        texts(GOOD, GOOD.replace("moon", "sun")),
        texts("今天的海很平静，风不大。", "今天的海很平静，浪不大。", "今天的海怎么样？"),
        texts(GOOD, BAD, chosen={"finish_reason": "length"}),
        texts("I'm sorry, but I cannot help with that request.", BAD),
        texts("今天的海 is very calm, and the wind 不大。", "The sea is rough and the wind is strong now."),
        texts(GOOD, BAD, judge={**AGREED, "margin": 0.0}),
    ],
)
def test_a_gate_that_nearly_fires_makes_a_pair_near(suspicious):
    assert strata_of([suspicious]) == [NEAR]


def test_the_lowest_tenth_of_the_margins_is_near_and_equal_margins_are_not():
    margins = [pair(number, judge={**AGREED, "margin": 1 + number}) for number in range(100)]
    assert strata_of(margins).count(NEAR) == 10
    assert strata_of(margins)[:10] == [NEAR] * 10
    assert set(strata_of([pair(number, judge=AGREED) for number in range(100)])) == {OTHER}

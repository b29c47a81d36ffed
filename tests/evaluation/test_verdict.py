"""Verdict: what may be claimed, and when damage outweighs everything."""

from __future__ import annotations

import math

import pytest

from align.evaluation.measures import Measures, rivals
from align.evaluation.statistics import paired_difference
from align.evaluation.verdict import damage, decide

N = 60


def measures(relevance=1.0, distinct_3=0.9, nll=3.0) -> Measures:
    hits = round(relevance * N)
    return Measures(
        ended=1.0,
        words=20.0,
        distinct_3=distinct_3,
        relevant=[n < hits for n in range(N)],
        style_strength=1.0,
        general_nll=nll,
    )


def difference(share: float):
    """An estimate whose value is about `share`, clear of zero unless share is 0."""
    hits = round(abs(share) * N)
    first = [[1.0] if n < hits else [0.0] for n in range(N)]
    second = [[0.0]] * N
    return paired_difference(first, second) if share >= 0 else paired_difference(second, first)


def test_helped_needs_a_lead_over_sft_on_the_same_tokens():
    assert decide(difference(0.6), difference(0.3), [], is_sft_equal=True).word == "helped"
    assert decide(difference(0.6), difference(0.3), [], is_sft_equal=False).word == "better than base"
    assert decide(difference(0.6), None, [], is_sft_equal=False).word == "better than base"


def test_a_lead_over_base_alone_is_not_help():
    assert decide(difference(0.6), difference(0.0), [], is_sft_equal=True).word == "as good as SFT"
    assert decide(difference(0.6), difference(-0.3), [], is_sft_equal=True).word == "worse than SFT"


def test_an_interval_with_zero_shows_nothing():
    assert decide(difference(0.0), difference(0.3), [], is_sft_equal=True).word == "not shown"


@pytest.mark.parametrize(
    ("trained", "named"),
    [
        (measures(relevance=0.85), "relevance"),
        (measures(distinct_3=0.71), "distinct-3"),
        (measures(distinct_3=math.nan), "distinct-3"),
        (measures(nll=3.2), "general text"),
        (measures(nll=math.nan), "general text"),
    ],
)
def test_damage_is_found_and_is_the_verdict_whatever_the_skill(trained, named):
    losses = damage(trained, measures(), difference(0.9))
    assert len(losses) == 1 and named in losses[0]
    assert decide(difference(0.9), difference(0.5), losses, is_sft_equal=True).is_damaged


def test_a_lost_skill_is_damage():
    assert "the skill itself fell" in damage(measures(), measures(), difference(-0.5))[0]


def test_what_stays_within_the_bounds_is_no_damage():
    assert damage(measures(relevance=0.9, distinct_3=0.73, nll=3.14), measures(), difference(0.1)) == []


def test_rivals_hold_the_own_prompt_first_and_19_others():
    candidates = rivals(60)
    assert all(row[0] == own and len(set(row)) == 20 for own, row in enumerate(candidates))
    assert candidates == rivals(60)


def test_fewer_than_20_prompts_are_all_rivals():
    assert [sorted(row) for row in rivals(3)] == [[0, 1, 2]] * 3

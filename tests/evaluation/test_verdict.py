"""Verdict: what may be claimed, and when damage outweighs everything."""

from __future__ import annotations

import itertools
import math
import re

import pytest

from align.evaluation.baseline import Baseline
from align.evaluation.measures import Measures, rivals
from align.evaluation.verdict import damage, decide
from align.statistics import Estimate, paired_difference

N = 60


def measures(relevance=1.0, distinct_3=0.9, nll=3.0, words=20.0) -> Measures:
    hits = round(relevance * N)
    return Measures(
        ended=1.0,
        words=words,
        distinct_3=distinct_3,
        relevant=[n < hits for n in range(N)],
        style_strength=1.0,
        general_nll=nll,
    )


def difference(share: float) -> Estimate:
    """An estimate whose value is about `share`, clear of zero unless share is 0."""
    hits = round(abs(share) * N)
    first = [[1.0] if n < hits else [0.0] for n in range(N)]
    second = [[0.0]] * N
    return paired_difference(first, second) if share >= 0 else paired_difference(second, first)


def interval(low: float, high: float) -> Estimate:
    return Estimate((low + high) / 2, low, high, N, 0, "", unit="points")


SFT = Baseline("SFT")
FLAWED = Baseline("SFT", ["it had 99 rows to learn from, not 100"])
AHEAD, BEHIND, LEVEL = interval(0.1, 0.3), interval(-0.3, -0.1), interval(-0.188, 0.010)


def test_helped_needs_a_lead_over_sft_on_the_same_tokens():
    assert decide("DPO", AHEAD, [], SFT, AHEAD).word == "helped"
    assert decide("DPO", AHEAD, [], FLAWED, AHEAD).word == "better than base"
    assert decide("DPO", AHEAD, []).word == "better than base"


def test_a_lead_over_base_alone_is_not_help():
    assert decide("DPO", AHEAD, [], SFT, LEVEL).word == "not shown to beat SFT"
    assert decide("DPO", AHEAD, [], SFT, BEHIND).word == "worse than SFT"


def test_an_interval_with_zero_shows_nothing():
    assert decide("DPO", LEVEL, [], SFT, AHEAD).word == "not shown to beat base"
    assert decide("DPO", difference(0.0), []).word == "not shown to beat base"


@pytest.mark.parametrize(
    ("over", "word"),
    [
        (interval(0.0, 0.2), "not shown to beat SFT"),
        (interval(-0.2, 0.0), "not shown to beat SFT"),
        (interval(-0.0, 0.0), "not shown to beat SFT"),
        (interval(-math.inf, math.inf), "not shown to beat SFT"),
        (interval(math.nan, math.nan), "not shown to beat SFT"),
        (interval(1e-6, 0.2), "helped"),
        (interval(-0.2, -1e-6), "worse than SFT"),
    ],
)
def test_an_interval_that_touches_zero_includes_it(over, word):
    assert decide("DPO", AHEAD, [], SFT, over).word == word
    assert over.excludes_zero == (not word.startswith("not shown"))
    instead_of_base = {"helped": "better than base", "worse than SFT": "not shown to beat base"}
    assert decide("DPO", over, []).word == instead_of_base.get(word, "not shown to beat base")


def test_flaws_take_nothing_from_a_baseline_that_is_as_good_or_better():
    assert decide("DPO", AHEAD, [], FLAWED, LEVEL).word == "not shown to beat SFT"
    assert decide("DPO", AHEAD, [], FLAWED, BEHIND).word == "worse than SFT"


ALL_CASES = list(itertools.product((AHEAD, LEVEL, BEHIND), (None, [], ["its recipe is X"]), (AHEAD, LEVEL, BEHIND)))


@pytest.mark.parametrize(("run", "other"), [("GRPO", "KTO"), ("SFT a", "SFT b"), ("Mine", "DPO")])
def test_words_and_reasons_call_every_arm_by_its_own_name_only(run, other):
    for over_base, found, over_other in ALL_CASES:
        baseline = None if found is None else Baseline(other, found)
        verdict = decide(run, over_base, damage(measures(), measures(), over_base), baseline, over_other)
        said = "\n".join([verdict.word, *verdict.reasons]).replace(run, "").replace(other, "")
        assert not re.search(r"\b(SFT|DPO|GRPO|KTO)\b", said), said


def test_every_word_has_its_interval_beside_it_and_every_interval_stands_in_the_reasons():
    for over_base, found, over_other in ALL_CASES:
        baseline = None if found is None else Baseline("SFT", found)
        verdict = decide("DPO", over_base, damage(measures(), measures(), over_base), baseline, over_other)
        said = "\n".join(verdict.reasons)
        assert str(over_base) in said
        if verdict.is_damaged:
            assert verdict.estimate is None
            continue
        assert verdict.estimate is (over_base if "base" in verdict.word else over_other)
        assert baseline is None or str(over_other) in said
        assert baseline is None or not baseline.flaws or baseline.shortcoming in verdict.reasons


def test_the_reasons_of_a_comparison_read_in_full():
    verdict = decide("DPO", interval(0.413, 0.635), [], SFT, LEVEL)
    assert verdict.reasons == [
        "DPO beats base: +52.4 points [+41.3, +63.5]",
        "DPO is not shown to beat SFT, the interval includes zero: -8.9 points [-18.8, +1.0]",
        "SFT learned as many chosen tokens of the same file as DPO, from the same model",
    ]


@pytest.mark.parametrize(
    ("trained", "named"),
    [
        (measures(relevance=0.85), "relevance"),
        (measures(distinct_3=0.71), "distinct-3"),
        (measures(words=0, distinct_3=math.nan), "no answer has a word"),
        (measures(nll=3.2), "general text"),
        (measures(nll=math.nan), "general text"),
    ],
)
def test_damage_is_found_and_is_the_verdict_whatever_the_skill(trained, named):
    losses = damage(trained, measures(), difference(0.9))
    assert len(losses) == 1 and named in losses[0]
    assert decide("DPO", difference(0.9), losses, SFT, difference(0.5)).is_damaged


def test_answers_too_short_for_trigrams_are_no_damage():
    """An answer of one number has no trigram; nothing can be said of its variety."""
    assert damage(measures(distinct_3=math.nan, words=1.0), measures(), difference(0.9)) == []
    empty = measures(distinct_3=math.nan, words=0)
    assert damage(empty, empty, difference(0.9)) == [], "base had no words either"


def test_a_lost_skill_is_damage():
    lost = interval(-0.5, -0.1)
    assert damage(measures(), measures(), lost) == [f"the skill itself fell: {lost} against base"]
    assert damage(measures(), measures(), interval(-0.5, 0.0)) == []


def test_damage_is_said_with_what_was_measured_and_what_is_allowed():
    relevance, distinct_3, text = damage(measures(0.85, 0.5, 3.2), measures(), difference(0.1))
    assert relevance.startswith("relevance: 0.850 of answers belong to their prompts, 1.000 of base's (at least 0.900 ")
    assert relevance.endswith("]"), "a share has an interval"
    assert distinct_3.endswith("0.500 of word trigrams are no repetition, 0.900 of base's (at least 0.720 allowed)")
    assert text == "general text: +0.200 nats a token against base (at most +0.150 allowed)"


def test_what_stays_within_the_bounds_is_no_damage():
    assert damage(measures(relevance=0.9, distinct_3=0.73, nll=3.14), measures(), difference(0.1)) == []


def test_rivals_hold_the_own_prompt_first_and_19_others():
    candidates = rivals(60)
    assert all(row[0] == own and len(set(row)) == 20 for own, row in enumerate(candidates))
    assert candidates == rivals(60)


def test_fewer_than_20_prompts_are_all_rivals():
    assert [sorted(row) for row in rivals(3)] == [[0, 1, 2]] * 3

"""Statistics: golden values, the claims in the docstrings, and how often the intervals hold the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from align.errors import DataError
from align.statistics import (
    Estimate,
    clustered_mean,
    exact_interval,
    minimum_detectable_effect,
    paired_difference,
    win_rate,
    win_rate_by_prompt,
)

NUM_RUNS = 600
N, K = 60, 2


@pytest.mark.parametrize(("successes", "trials"), [(0, 60), (1, 60), (30, 60), (59, 60), (60, 60), (3, 7)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_exact_interval_is_clopper_pearson(successes, trials, level):
    wanted = stats.binomtest(successes, trials).proportion_ci(level, method="exact")
    found = exact_interval(successes, trials, level)
    assert (found.low, found.high, found.level) == pytest.approx((wanted.low, wanted.high, level), abs=1e-12)


@pytest.mark.parametrize(("successes", "trials"), [(1, 0), (-1, 5), (6, 5), (0, 0)])
def test_exact_interval_refuses_impossible_counts(successes, trials):
    with pytest.raises(DataError, match=f"not {successes} of {trials}"):
        exact_interval(successes, trials)


def test_mean_of_prompt_means_has_scipys_t_interval():
    scores = [[0.2, 0.4], [0.6, 0.4], [0.3], [0.35, 0.6, 0.1]]
    means = [np.mean(row) for row in scores]
    wanted = stats.t.interval(0.95, 3, np.mean(means), stats.sem(means))
    found = clustered_mean(scores)
    assert (found.low, found.high) == pytest.approx(wanted)
    assert found.value == pytest.approx(np.mean(means))
    assert found.method == "t interval over prompts"


def test_paired_rates_match_bonett_and_price():
    better, equal, worse, n = 14, 40, 6, 60
    a = [[1]] * better + [[1]] * equal + [[0]] * worse
    b = [[0]] * better + [[1]] * equal + [[1]] * worse
    p, q = (better + 1) / (n + 2), (worse + 1) / (n + 2)
    half = stats.t.ppf(0.975, n + 1) * math.sqrt((p + q - (p - q) ** 2) / (n + 1))
    found = paired_difference(a, b)
    assert (found.low, found.high) == pytest.approx((p - q - half, p - q + half))
    assert found.value == pytest.approx(8 / 60)


def test_more_samples_of_the_same_prompts_are_no_more_evidence():
    few, many = [[1], [0], [1], [1]] * 5, [[1] * 50, [0] * 50, [1] * 50, [1] * 50] * 5
    assert clustered_mean(few).low == clustered_mean(many).low


def test_missing_scores_are_counted_and_never_zero():
    found = clustered_mean([[1, None], [float("nan"), 0.0], [None, None], [], [1, 1]])
    assert (found.value, found.num_prompts, found.num_missing) == (pytest.approx(2 / 3), 3, 5)


def test_a_prompt_without_a_score_in_one_arm_is_left_out_of_the_pairs():
    found = paired_difference([[1], [None], [0]], [[0], [0], [0]])
    assert (found.value, found.num_prompts, found.num_missing) == (0.5, 2, 1)


@pytest.mark.parametrize("scores", [[], [[]], [[None], [math.nan]]])
def test_no_score_at_all_is_an_error(scores):
    with pytest.raises(DataError, match="must have a score"):
        clustered_mean(scores)


def test_arms_without_a_common_prompt_or_of_unequal_length_are_an_error():
    with pytest.raises(DataError, match="in both arms"):
        paired_difference([[1], [None]], [[None], [1]])
    with pytest.raises(DataError, match="not 1 and 2"):
        paired_difference([[1]], [[1], [1]])
    with pytest.raises(DataError, match="prompt 1: scores must be finite"):
        clustered_mean([[1], [math.inf]])


def test_sixty_of_sixty_is_clopper_pearson_and_not_certainty():
    found, wanted = clustered_mean([[1, 1]] * 60), exact_interval(60, 60)
    assert (found.low, found.high) == pytest.approx((wanted.low, 1))
    assert win_rate(60, 0, 0).low == pytest.approx(wanted.low)


def test_equal_arms_are_not_proven_equal():
    found = paired_difference([[1, 0]] * 60, [[1, 0]] * 60)
    share = exact_interval(0, 60).high
    assert (found.low, found.value, found.high, found.p_value) == pytest.approx((-share, 0, share, 1))


def test_every_prompt_gaining_is_bounded_by_the_share_that_may_not():
    found = paired_difference([[1]] * 60, [[0]] * 60)
    assert (found.low, found.high) == pytest.approx((1 - 2 * exact_interval(0, 60).high, 1))


def test_equal_scores_of_unknown_range_have_no_interval():
    found = paired_difference([[-2.5]] * 9, [[-2.75]] * 9)
    assert (found.value, found.low, found.high) == (0.25, -math.inf, math.inf)
    assert not found.excludes_zero


def test_sign_flips_are_enumerated_for_few_prompts():
    a, b = [[0.9], [0.7], [0.8], [0.2]], [[0.1], [0.2], [0.5], [0.3]]
    wanted = stats.permutation_test(
        ([x[0] - y[0] for x, y in zip(a, b, strict=True)],), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    found = paired_difference(a, b)
    assert found.p_value == pytest.approx(wanted.pvalue)
    assert "exact" in found.method


def test_random_sign_flips_repeat_and_come_near_the_exact_sign_test():
    a, b = [[1]] * 20 + [[0]] * 8, [[0]] * 20 + [[1]] * 8  # all differences 1 or -1: the two tests are the same
    found = paired_difference(a, b).p_value
    assert found == paired_difference(a, b).p_value
    assert found == pytest.approx(stats.binomtest(20, 28).pvalue, abs=0.006)


@pytest.mark.parametrize(("wins", "ties", "losses"), [(30, 10, 20), (5, 0, 0), (0, 9, 0), (1, 3, 8), (7, 2, 7)])
def test_win_rate_counts_ties_half_and_its_p_value_leaves_them_out(wins, ties, losses):
    found = win_rate(wins, ties, losses)
    assert found.value == pytest.approx((wins + ties / 2) / (wins + ties + losses))
    wanted = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert found.p_value == pytest.approx(wanted)


def test_win_rate_by_prompt_takes_the_prompt_as_one_win():
    found = win_rate_by_prompt([[1, 1, 0.5]] * 6 + [[1, 0]] * 3 + [[0, 0]] * 2)
    assert found.p_value == pytest.approx(stats.binomtest(6, 8).pvalue)
    with pytest.raises(DataError, match=r"1, 0\.5, 0"):
        win_rate_by_prompt([[0.7]])
    with pytest.raises(DataError, match="negative"):
        win_rate(-1, 0, 2)


def test_estimates_print_for_a_terminal():
    assert str(Estimate(0.417, 0.301, 0.532, 60, 0, "", unit="points")) == "+41.7 points [+30.1, +53.2]"
    assert str(Estimate(0.1, 0.0004, 0.2, 60, 0, "", unit="points")) == "+10 points [+0.04, +20]", "not [+0.0, "
    assert str(Estimate(0.725, 0.6, 0.82, 60, 0, "")) == "72.5% [60.0%, 82.0%]"
    assert str(paired_difference([[-1.5], [-2.5]], [[-1.5], [-2.5]])) == "+0 [-inf, +inf]"
    assert str(clustered_mean([[3.0], [5.0]])).startswith("4 [")


outcomes = st.lists(st.lists(st.sampled_from([0, 0.5, 1, None]), min_size=1, max_size=4), min_size=1, max_size=30)
rates = st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=4), min_size=1, max_size=30)


@settings(max_examples=100, deadline=None)
@given(st.one_of(outcomes.filter(lambda rows: any(score is not None for row in rows for score in row)), rates))
def test_mean_lies_in_its_interval_and_mirrors(scores):
    found = clustered_mean(scores)
    assert 0 <= found.low <= found.value + 1e-12 and found.value <= found.high + 1e-12 and found.high <= 1 + 1e-12
    mirrored = clustered_mean([[None if score is None else 1 - score for score in row] for row in scores])
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((found.low, found.high), abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(st.one_of(*(st.lists(st.tuples(row, row), min_size=1, max_size=30) for row in (
    st.lists(st.sampled_from([0, 1]), min_size=1, max_size=3), st.lists(st.floats(-9, 9), min_size=1, max_size=3)
))))  # fmt: skip
def test_swapping_the_arms_turns_the_sign_and_nothing_else(pairs):
    a, b = [first for first, _ in pairs], [second for _, second in pairs]
    found, swapped = paired_difference(a, b), paired_difference(b, a)
    assert found.low <= found.value + 1e-12 and found.value <= found.high + 1e-12
    assert (-swapped.high, -swapped.value, -swapped.low) == pytest.approx((found.low, found.value, found.high))
    assert swapped.p_value == found.p_value and 0 < found.p_value <= 1


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_win_rate_mirrors_and_keeps_order(wins, ties, losses):
    if wins + ties + losses == 0:
        return
    found, swapped = win_rate(wins, ties, losses), win_rate(losses, ties, wins)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert (1 - swapped.high, swapped.p_value) == pytest.approx((found.low, found.p_value))


def _draw_arms(generator, rate_a, rate_b, num_prompts=N, num_samples=K, correlation=0.5):
    """Two arms of 0/1 scores: `correlation` within a prompt's samples, and between the arms' beta-distributed rates."""
    u = generator.random((2, num_prompts))
    u[1] = np.where(generator.random(num_prompts) < correlation, u[0], u[1])
    weight = (1 - correlation) / correlation
    for rate, quantiles in zip((rate_a, rate_b), u, strict=True):
        rates_N = special.betaincinv(rate * weight, (1 - rate) * weight, quantiles)
        yield generator.binomial(1, rates_N[:, None], (num_prompts, num_samples)).tolist()


def _coverage(estimates, truth):
    return np.mean([one.low <= truth <= one.high for one in estimates])


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2, 0.5, 0.95, 0.99])
def test_the_interval_of_a_rate_covers(rate):
    generator = np.random.default_rng(0)
    estimates = [clustered_mean(next(_draw_arms(generator, rate, rate))) for _ in range(NUM_RUNS)]
    assert _coverage(estimates, rate) >= 0.93


@pytest.mark.parametrize("rates", [(0.05, 0.05), (0.5, 0.5), (0.95, 0.95), (0.95, 0.05), (0.01, 0.3), (0.99, 0.01)])
def test_the_interval_of_a_difference_covers(rates):
    generator = np.random.default_rng(1)
    estimates = [paired_difference(*_draw_arms(generator, *rates)) for _ in range(NUM_RUNS)]
    assert _coverage(estimates, rates[0] - rates[1]) >= 0.93


def test_equal_arms_are_called_different_in_at_most_six_of_a_hundred():
    generator = np.random.default_rng(2)
    estimates = [paired_difference(*_draw_arms(generator, 0.5, 0.5)) for _ in range(NUM_RUNS)]
    assert np.mean([one.p_value <= 0.05 for one in estimates]) <= 0.06
    assert np.mean([one.excludes_zero for one in estimates]) <= 0.06


@pytest.mark.parametrize(
    "shares", [(0.95, 0, 0.05), (0.5, 0, 0.5), (0.05, 0.9, 0.05), (0.02, 0.98, 0), (0.3, 0.1, 0.6)]
)
def test_the_interval_of_a_win_rate_covers(shares):
    generator = np.random.default_rng(3)
    counts = generator.multinomial(N, shares, NUM_RUNS)
    assert _coverage([win_rate(*map(int, row)) for row in counts], shares[0] + shares[1] / 2) >= 0.93


@pytest.mark.parametrize(("num_prompts", "num_samples", "correlation"), [(60, 2, 0.5), (60, 8, 0.5), (60, 2, 0.3)])
def test_the_minimum_detectable_effect_is_found_in_four_of_five_runs(num_prompts, num_samples, correlation):
    effect = minimum_detectable_effect(num_prompts, num_samples, correlation=correlation)
    generator, design = np.random.default_rng(4), (num_prompts, num_samples, correlation)
    arms = (_draw_arms(generator, 0.5 + effect / 2, 0.5 - effect / 2, *design) for _ in range(NUM_RUNS))
    assert 0.75 <= np.mean([paired_difference(*two).excludes_zero for two in arms]) <= 0.88


def test_the_minimum_detectable_effect_at_a_low_base_rate_counts_the_other_arms_variance():
    effect, generator = minimum_detectable_effect(N, K, base_rate=0.05), np.random.default_rng(5)
    arms = (_draw_arms(generator, 0.05 + effect, 0.05) for _ in range(NUM_RUNS))
    assert 0.75 <= np.mean([paired_difference(*two).excludes_zero for two in arms]) <= 0.88


def test_the_minimum_detectable_effect_approaches_millers_formula():
    num_prompts, num_samples, correlation = 100_000, 3, 0.4
    omega = 2 * 0.25 * correlation * (1 - correlation)
    sigma = 2 * 0.25 * (1 - correlation) / num_samples
    wanted = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * math.sqrt((omega + sigma) / num_prompts)
    found = minimum_detectable_effect(num_prompts, num_samples, correlation=correlation)
    assert found == pytest.approx(wanted, rel=1e-3)
    assert minimum_detectable_effect(2, 1) == 1.0
    with pytest.raises(DataError, match="2 prompts"):
        minimum_detectable_effect(1, 2)

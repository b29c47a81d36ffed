"""Noise: golden values, what the counts mean, and how often the interval holds the truth."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from align.errors import DataError
from align.evaluation.noise import Stratum, estimate_noise, more_labels
from align.review.order import WEIGHTS, review_order

NUM_RUNS = 400
SIZES = [200, 200, 1_600]


def test_a_stratum_counts_by_its_pairs_that_were_not_asked():
    found = estimate_noise([Stratum("split", 100, 5, 5), Stratum("other", 910, 10, 0)])
    assert found.rest.value == pytest.approx(0.5 * 90 / 990)
    assert found.before.value == pytest.approx((5 + 45) / 1_010)
    assert found.after.value == pytest.approx(45 / 1_010)


def test_one_great_stratum_is_jeffreys_interval():
    found = estimate_noise([Stratum("all", 10_000_500, 460, 40)]).rest
    wanted = stats.beta(40.5, 460.5).ppf([0.025, 0.975])
    assert (found.low, found.high) == pytest.approx(wanted, abs=1e-4) and found.value == 0.08


def test_the_interval_of_few_pairs_is_that_of_their_beta_binomial_number():
    found = estimate_noise([Stratum("all", 700, 450, 50)]).rest
    wanted = stats.betabinom(200, 50.5, 450.5).ppf([0.025, 0.975]) / 200
    assert (found.low, found.high) == pytest.approx(wanted, abs=2 / 200)


def test_ties_are_not_wrong_but_leave_the_set_and_so_do_skipped_pairs():
    found = estimate_noise([Stratum("all", 200, 60, 20, 20, 10)])
    assert found.rest.value == pytest.approx(0.2) and found.ties.value == pytest.approx(0.2)
    assert found.after.value == pytest.approx(0.2 * 90 / 170)
    assert found.before.value == pytest.approx((20 + 0.2 * 100) / 200)
    assert found.if_skipped_wrong.value == pytest.approx(30 / 110) and found.if_skipped_wrong.high > found.rest.high


def test_none_wrong_is_not_proof_of_none_and_all_asked_is():
    found = estimate_noise([Stratum("all", 1_000, 60)]).rest
    assert (found.low, found.value) == (0, 0) and 0.02 < found.high < 0.06
    assert estimate_noise([Stratum("all", 1_000, 0, 60)]).rest.high == 1
    found = estimate_noise([Stratum("all", 60, 50, 10)])
    assert found.before.low == found.before.high == pytest.approx(1 / 6)
    assert found.rest.high == found.after.high == 0


def test_a_stratum_without_labels_widens_the_interval_and_stays_in_the_estimate():
    known = estimate_noise([Stratum("split", 500, 90, 10), Stratum("other", 500, 100)])
    blind = estimate_noise([Stratum("split", 500, 90, 10), Stratum("other", 500)])
    assert blind.rest.half_width > 3 * known.rest.half_width
    assert blind.rest.value == pytest.approx(0.1)


@pytest.mark.parametrize("strata", [[], [Stratum("a", 9)], [Stratum("a", 9, num_skipped=3)], [Stratum("a", 9, 9, 1)]])
def test_no_labels_or_more_than_pairs_is_an_error(strata):
    with pytest.raises(DataError, match="estimate_noise: "):
        estimate_noise(strata)


def test_the_json_form_holds_every_count_and_interval():
    record = estimate_noise([Stratum("split", 50, 5, 3, 1, 1), Stratum("other", 100, 9, 1)]).to_dict()
    assert (record["pairs"], record["labelled"], record["wrong"], record["skipped"]) == (150, 19, 4, 1)
    assert record["noise_of_rest"]["pairs"] == 130 and record["level"] == 0.95 and "Jeffreys" in record["method"]
    assert [one["rest"] for one in record["strata"]] == [40, 90]


def test_as_many_more_labels_as_are_announced_are_enough_and_ten_fewer_are_not():
    strata, coming = [Stratum("other", 20_000, 90, 10)], ["other"] * 19_900
    more = more_labels(strata, coming)
    widths = [
        estimate_noise([Stratum("other", 20_000, round(0.9 * n), round(0.1 * n))]).rest.half_width
        for n in (90 + more, 100 + more)
    ]
    assert widths[0] > 0.03 >= widths[1]
    assert more_labels([Stratum("other", 20_000, 990, 10)], ["other"] * 10) == 0


def test_three_points_are_out_of_reach_where_the_rest_is_too_small_to_have_a_steady_share():
    assert more_labels([Stratum("other", 300, 40, 10)], ["other"] * 250) is None


counts = st.tuples(*[st.integers(0, 30)] * 5).filter(lambda numbers: sum(numbers[:3]) > 0)


@settings(max_examples=200, deadline=None)
@given(st.lists(counts, min_size=1, max_size=3))
def test_every_share_lies_in_its_interval_and_in_0_to_1(many):
    strata = [Stratum(str(number), sum(one), *one[:4]) for number, one in enumerate(many)]
    noise = estimate_noise(strata)
    for share in (noise.rest, noise.before, noise.after, noise.ties, noise.if_skipped_wrong):
        assert 0 <= share.low <= share.value + 1e-12 and share.value <= share.high + 1e-12 and share.high <= 1 + 1e-12


@pytest.mark.parametrize("noise", [0.02, 0.05, 0.1, 0.2])
@pytest.mark.parametrize("times", [(6, 3, 1), (1, 1, 1)], ids=["informative", "useless"])
def test_500_labels_in_the_review_order_tell_the_noise_of_the_rest(noise, times):
    """The same in `benchmarks/noise.py`, with more runs and cases."""
    names = np.repeat(list(WEIGHTS), SIZES)
    asked = Counter(names[place] for place in review_order(list(map(str, range(2_000))), names.tolist())[:500])
    rates = np.minimum(0.7, noise * np.array(times) * 2_000 / np.dot(times, SIZES))
    generator, held, errors = np.random.default_rng(0), 0, []
    for _ in range(NUM_RUNS):
        wrong = [generator.random(size) < rate for size, rate in zip(SIZES, rates, strict=True)]
        found = [int(one[: asked[name]].sum()) for name, one in zip(WEIGHTS, wrong, strict=True)]
        strata = [
            Stratum(name, size, asked[name] - num, num) for name, size, num in zip(WEIGHTS, SIZES, found, strict=True)
        ]
        rest, truth = estimate_noise(strata).rest, (sum(one.sum() for one in wrong) - sum(found)) / 1_500
        held += rest.low <= truth <= rest.high
        errors.append(abs(rest.value - truth))
    assert held / NUM_RUNS >= 0.93
    assert np.mean(errors) <= 0.02

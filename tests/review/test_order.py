"""Order: fixed by the seed, suspicious pairs early, and a fair sample of every stratum."""

from __future__ import annotations

import hashlib
from collections import Counter

from align.review.order import is_swapped, review_order
from align.review.suspicion import NEAR, OTHER, SPLIT

KEYS = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(2_000)]
STRATA = [SPLIT] * 200 + [NEAR] * 200 + [OTHER] * 1_600


def test_every_pair_is_asked_once_and_the_order_is_the_seeds():
    order = review_order(KEYS, STRATA)
    assert sorted(order) == list(range(2_000))
    assert order == review_order(KEYS, STRATA)
    assert order != review_order(KEYS, STRATA, seed=1)


def test_the_order_is_of_the_pairs_and_not_of_their_lines():
    backwards = review_order(KEYS[::-1], STRATA[::-1])
    assert [KEYS[place] for place in review_order(KEYS, STRATA)] == [KEYS[::-1][place] for place in backwards]


def test_split_pairs_are_asked_three_times_as_early_and_others_from_the_start():
    asked = Counter(STRATA[place] for place in review_order(KEYS, STRATA)[:500])
    assert 100 <= asked[SPLIT] <= 120 and 65 <= asked[NEAR] <= 85 and asked[OTHER] >= 300
    assert len({STRATA[place] for place in review_order(KEYS, STRATA)[:5]}) == 3


def test_the_first_of_a_stratum_lie_anywhere_in_it():
    places = [place for place in review_order(KEYS, STRATA) if STRATA[place] == OTHER][:400]
    means = [sum((place - 400) // 400 == quarter for place in places) / 400 for quarter in range(4)]
    assert all(0.18 < mean < 0.32 for mean in means)


def test_with_one_stratum_the_order_is_plainly_random():
    assert sorted(review_order(KEYS, [OTHER] * 2_000)) == list(range(2_000))


def test_half_of_the_pairs_show_the_rejected_side_first():
    assert 900 < sum(is_swapped(key) for key in KEYS) < 1_100

"""Order: which pair to ask next, so that few labels teach much and the sample still speaks for the rest.

The order is fixed by the seed and the pairs' keys before the first label; it never looks at a label. Of ten questions,
nine go to the strata by their weights, so that a pair on which judges disagreed is asked three times as early as any
other; the tenth is drawn from all pairs that are left. Within a stratum the order is random (by a hash of seed and
key), so what was asked of it is a simple random sample. That is what `align.evaluation.noise` rests on.
"""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence

from align.review.suspicion import NEAR, OTHER, SPLIT

WEIGHTS = {SPLIT: 3.0, NEAR: 2.0, OTHER: 1.0}
"""Stratum → how often one of its pairs is asked against one of the others. Steeper weights find more wrong pairs and
widen the interval of the rest where suspicion means nothing: at 4, 2, 1 by a tenth more."""
EVERY = 10
"""One in so many questions is drawn from all pairs alike."""


def review_order(
    keys: Sequence[str], strata: Sequence[str], seed: int = 0, weights: Mapping[str, float] = WEIGHTS
) -> list[int]:
    """Places of the pairs in the order in which they are asked.

    Args:
        keys: of each pair, all different.
        strata: of each pair, named as in `weights`.
    """
    waiting: dict[str, list[int]] = {name: [] for name in weights}
    for index in sorted(range(len(keys)), key=lambda index: _rank(seed, keys[index]), reverse=True):
        waiting[strata[index]].append(index)
    sizes = {name: weights[name] * len(places) for name, places in waiting.items()}
    generator, credit = random.Random(seed), defaultdict[str, float](float)
    order = []
    for number in range(1, len(keys) + 1):
        left = [name for name in waiting if waiting[name]]
        if number % EVERY == 0:
            name = generator.choices(left, [len(waiting[name]) for name in left])[0]
        else:
            total = sum(sizes[name] for name in left)
            for name in left:
                credit[name] += sizes[name] / total
            name = max(left, key=lambda name: credit[name])
            credit[name] -= 1
        order.append(waiting[name].pop())
    return order


def is_swapped(key: str, seed: int = 0) -> bool:
    """Whether the pair's rejected side is shown as A: half of the pairs, by a hash."""
    return _rank(seed, "side " + key)[0] % 2 == 1


def _rank(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed} {key}".encode()).digest()

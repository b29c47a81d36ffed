"""Noise: the share of wrong pairs among those that nobody checked, from a labelled sample, with an interval.

Pairs lie in strata (judges disagreed, a gate nearly fired, the others) and suspicious ones are asked more often than
others. Within a stratum the order is random, so its labelled pairs are a simple random sample of it, and the estimate
is the stratified one: each stratum's share counts by the number of its unlabelled pairs. How many are asked of which
stratum must not depend on what the labels say (`align/review/order.py`), or the estimate is biased.

The interval is Bayesian by stratum: Jeffreys' prior Beta(1/2, 1/2) on its rate (Brown, Cai and DasGupta, "Interval
Estimation for a Binomial Proportion", 2001, section 4.1.2, with their correction where none or all are wrong), from it
the mean and variance of the number of wrong pairs among its unlabelled ones (beta-binomial), summed over strata, and
the quantiles of the Beta distribution with that mean and variance, rounded outwards to whole pairs. It was chosen by
simulation (`benchmarks/noise.py`): at 500 labels it holds the truth in 94 % of runs or more, at 50 in 92 %.
A stratum without labels adds its whole prior, so the interval is wide while one has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from align.errors import DataError
from align.statistics import LEVEL, Floats

METHOD = "stratified by suspicion; interval from Jeffreys posteriors by stratum, moments matched by a Beta"
HALF_WIDTH = 0.03
"""Half of an interval's width that is narrow enough: 3 points."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """Pairs that are asked equally often, and what the labels say of them. Labelled: ok, wrong or tie."""

    name: str
    num_pairs: int
    num_ok: int = 0
    num_wrong: int = 0
    """The rejected side is the better one."""
    num_tie: int = 0
    """Neither side is better: not wrong, but teaches nothing."""
    num_skipped: int = 0
    """Asked, but the person could not say."""

    @property
    def num_labelled(self) -> int:
        """Pairs with an answer."""
        return self.num_ok + self.num_wrong + self.num_tie

    @property
    def num_rest(self) -> int:
        """Pairs that were never asked."""
        return self.num_pairs - self.num_labelled - self.num_skipped


@dataclass(frozen=True, slots=True)
class Share:
    """A share of pairs with its 95 % interval, all 0 to 1."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f} %)"


@dataclass(frozen=True, slots=True)
class Noise:
    """How many pairs are wrong. A skipped pair is taken to be like the labelled ones of its stratum."""

    strata: tuple[Stratum, ...]
    rest: Share
    """Wrong among the pairs that were never asked."""
    before: Share
    """Wrong among all pairs, before any was corrected."""
    after: Share
    """Wrong among the pairs that stay when wrong ones are swapped and ties and skipped ones removed."""
    ties: Share
    """Ties among the pairs that were never asked."""
    if_skipped_wrong: Share
    """`rest`, were every skipped pair wrong: the other end of what the skipped ones may hide."""

    def total(self, count: str) -> int:
        """Sum of one count over the strata: `num_labelled` for example."""
        return sum(getattr(one, count) for one in self.strata)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form: counts, shares with their intervals, level and method."""
        counts = ("pairs", "labelled", "ok", "wrong", "tie", "skipped", "rest")
        return {
            **{name: self.total(f"num_{name}") for name in counts if name != "rest"},
            "level": LEVEL,
            "method": METHOD,
            "noise_of_rest": {**asdict(self.rest), "pairs": self.total("num_rest")},
            "noise_before": asdict(self.before),
            "noise_after_corrections": asdict(self.after),
            "ties_of_rest": asdict(self.ties),
            "noise_of_rest_if_skipped_are_wrong": asdict(self.if_skipped_wrong),
            "strata": [
                {"name": one.name, **{name: getattr(one, f"num_{name}") for name in counts}} for one in self.strata
            ],
        }


def estimate_noise(strata: Sequence[Stratum]) -> Noise:
    """Estimate how many pairs are wrong.

    Raises:
        DataError: when no pair is labelled, or a stratum has more labels than pairs.
    """
    if not any(one.num_labelled for one in strata):
        raise DataError("estimate_noise: at least one pair must be labelled ok, wrong or tie; none is")
    for one in strata:
        if one.num_rest < 0:
            raise DataError(f"estimate_noise: {one.name} has {one.num_pairs} pairs, but more labels: {one}")
    labelled, wrong, tie, skipped, rest, pairs = (
        np.array([getattr(one, f"num_{name}") for one in strata], dtype=np.float64)
        for name in ("labelled", "wrong", "tie", "skipped", "rest", "pairs")
    )
    num_kept = pairs.sum() - tie.sum() - skipped.sum()
    found = _numbers(labelled, wrong, rest)
    with_skipped = _numbers(labelled, wrong, rest + skipped) + wrong.sum()
    return Noise(
        tuple(strata),
        rest=_share(found, rest.sum()),
        before=_share(with_skipped, pairs.sum()),
        after=_share(found, num_kept),
        ties=_share(_numbers(labelled, tie, rest), rest.sum()),
        if_skipped_wrong=_share(_numbers(labelled + skipped, wrong + skipped, rest), rest.sum()),
    )


def more_labels(strata: Sequence[Stratum], coming: Sequence[str], half_width: float = HALF_WIDTH) -> int | None:
    """Labels that are still needed, to the next ten, until `rest` is known within `half_width`.

    Supposes that the shares stay as they are now. 0: it is known already; None: no number of labels short of all is
    enough, because the fewer pairs are left, the more their share is a matter of chance.

    Args:
        coming: names of the strata of the pairs that are asked next, in order.
    """
    noise = estimate_noise(strata)
    if noise.rest.half_width <= half_width:
        return 0
    steps = np.arange(10, len(coming), 10)
    names = np.array(coming)
    labelled, wrong, rest = (
        np.array([getattr(one, f"num_{name}") for one in strata], dtype=np.float64)
        for name in ("labelled", "wrong", "rest")
    )
    asked = np.stack([np.cumsum(names == one.name)[steps - 1] for one in strata], axis=-1, dtype=np.float64)
    rates = np.where(labelled > 0, wrong / np.maximum(labelled, 1), wrong.sum() / labelled.sum())
    low, high = _ends(labelled + asked, wrong + asked * rates, rest - asked)
    left = np.maximum((rest - asked).sum(axis=-1), 1)
    enough = np.flatnonzero((high - low) / 2 / left <= half_width)
    return int(steps[enough[0]]) if enough.size else None


def _numbers(labelled_H: Floats, wrong_H: Floats, unknown_H: Floats) -> Floats:
    """(Estimate, low, high) of the number of wrong pairs among the unknown ones; H strata.

    A stratum that no label speaks for is estimated at the share of all labelled pairs together.
    """
    rates_H = np.where(labelled_H > 0, wrong_H / np.maximum(labelled_H, 1), wrong_H.sum() / labelled_H.sum())
    value = float((unknown_H * rates_H).sum())
    low, high = _ends(labelled_H, wrong_H, unknown_H)
    return np.array([value, min(float(low), value), max(float(high), value)])


def _ends(labelled_H: Floats, wrong_H: Floats, unknown_H: Floats) -> tuple[Floats, Floats]:
    """The interval's ends, in pairs. Shapes (..., H) to (...)."""
    from scipy import special

    a, b, num = wrong_H + 0.5, labelled_H - wrong_H + 0.5, unknown_H.sum(axis=-1)
    rates = a / (a + b)
    variances = unknown_H * rates * (1 - rates) * (a + b + unknown_H) / (a + b + 1)  # of a beta-binomial number
    mean = (unknown_H * rates).sum(axis=-1) / np.maximum(num, 1)
    variance = np.maximum(variances.sum(axis=-1), 1e-12) / np.maximum(num, 1) ** 2
    size = np.maximum(mean * (1 - mean) / variance - 1, 1e-9)
    tail = (1 - LEVEL) / 2
    mean = np.clip(mean, 1e-12, 1 - 1e-12)  # nothing unknown
    low = np.floor(special.betaincinv(mean * size, (1 - mean) * size, tail) * num + 1e-9)
    high = np.ceil(special.betaincinv(mean * size, (1 - mean) * size, 1 - tail) * num - 1e-9)
    low = np.where(wrong_H.sum(axis=-1) == 0, 0.0, low)
    return low, np.where((wrong_H == labelled_H).all(axis=-1), num, high)


def _share(numbers: Floats, num_pairs: float) -> Share:
    """Numbers of pairs as shares of all; of no pairs, 0."""
    value, low, high = (float(number) / max(float(num_pairs), 1.0) + 0.0 for number in numbers)
    return Share(value, low, high)

"""Statistics: rates and differences with intervals, from scores of N prompts with K samples each.

The prompt is the unit everywhere: samples of one prompt resemble each other, so they count as one observation, their
mean. The plain t interval on those means covers far less than its 95 % where few prompts differ (simulated: 18 to 79 %
at a true rate of 0.01 with 20 to 60 prompts). Scores of 1, 0.5 and 0 therefore get the *adjusted t interval*: one
made-up prompt is added at each end of the range before the t interval is taken (for paired 0/1 data this is Bonett and
Price, "Adjusted Wald confidence interval for a difference of binomial proportions based on paired data", 2012, with t
for z; the idea is Agresti and Coull's, 1998). It is too wide where nearly all prompts are equal, never much too narrow
(simulated: at least 94 %). Other scores get the t interval. A missing score (None, NaN) is left out and counted, never
taken as 0.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from align.errors import DataError

Floats: TypeAlias = NDArray[np.float64]
Scores: TypeAlias = Sequence[Sequence[float | None]] | Floats
"""N prompts with K samples each; K may differ between prompts."""

Unit: TypeAlias = Literal["rate", "points", "score", "difference"]

LEVEL = 0.95
_LIMITS: dict[Unit, tuple[float, float]] = {
    "rate": (0.0, 1.0),
    "points": (-1.0, 1.0),
    "score": (-math.inf, math.inf),
    "difference": (-math.inf, math.inf),
}
_NUM_FLIPS = 10_000
_MAX_EXACT = 12


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval, ends included."""

    low: float
    high: float
    level: float
    """Share of repetitions in which such an interval holds the true value, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean or a difference with its 95 % interval."""

    value: float
    """A rate is 0 to 1, a difference of rates -1 to 1; other scores keep their own unit."""
    low: float
    """-inf (and `high` inf) where the data allow no interval: equal scores whose range is not known."""
    high: float
    num_prompts: int
    """Prompts that count: those with at least one score (in each arm)."""
    num_missing: int
    """Scores that were None or NaN, in both arms together; a prompt without any sample counts as one."""
    method: str
    """How the interval, and the p value if any, was made; for the report."""
    p_value: float | None = None
    """Two-sided, against "no difference"; None where nothing is compared. Not the interval's twin: near 0.05 they
    can disagree."""
    unit: Unit = "rate"
    """Percent, signed percentage points; plain and signed plain where scores leave the range 0 to 1."""

    @property
    def excludes_zero(self) -> bool:
        """The interval leaves zero out: a difference has a sign."""
        return self.excludes(0.0)

    def excludes(self, null: float) -> bool:
        """The interval leaves `null` out, its ends included; NaN excludes nothing.

        For a win rate, "no difference" is 0.5.
        """
        return self.low > null or self.high < null

    def __str__(self) -> str:
        scale = 100 if self.unit in ("rate", "points") else 1
        form = {"rate": "{:.1f}%", "points": "{:+.1f}", "score": "{:.4g}", "difference": "{:+.4g}"}[self.unit]
        if self.unit == "points" and any(0 < scale * abs(end) < 0.05 for end in (self.low, self.high)):
            form = "{:+.3g}"  # or an end beside zero would look like zero
        value, low, high = (form.format(scale * number + 0.0) for number in (self.value, self.low, self.high))
        return f"{value}{' points' if self.unit == 'points' else ''} [{low}, {high}]"


def exact_interval(num_successes: int, num_trials: int, level: float = LEVEL) -> Interval:
    """Clopper and Pearson's interval for a rate (1934): covers at least `level`, for independent trials only."""
    from scipy import special

    if not 0 <= num_successes <= num_trials or num_trials == 0:
        raise DataError(f"exact_interval: 0 <= successes <= trials, trials > 0, not {num_successes} of {num_trials}")
    tail, failures = (1 - level) / 2, num_trials - num_successes
    low = special.betaincinv(num_successes, failures + 1, tail) if num_successes else 0.0
    high = special.betaincinv(num_successes + 1, failures, 1 - tail) if failures else 1.0
    return Interval(float(low), float(high), level)


def clustered_mean(scores_N_K: Scores) -> Estimate:
    """Mean over prompts of the mean over samples, with an interval clustered by prompt (see the module)."""
    means_N, num_missing = _prompt_means(scores_N_K, "clustered_mean")
    unit: Unit = "rate" if _are_rates(means_N) else "score"
    return _estimate(means_N, num_missing, unit, _are_outcomes(scores_N_K))


def paired_difference(a_N_K: Scores, b_N_K: Scores) -> Estimate:
    """Mean of a - b over the prompts that both arms answered, paired by position; its p value is a sign-flip test.

    The test (Fisher 1935) is exact up to 12 differing prompts, else from 10,000 random flips with a fixed seed,
    counted as (1 + hits) / (1 + flips) (Phipson and Smyth 2010).
    """
    if len(a_N_K) != len(b_N_K):
        raise DataError(f"paired_difference: both arms must have the same prompts, not {len(a_N_K)} and {len(b_N_K)}")
    means_a_N, missing_a = _prompt_means(a_N_K, "paired_difference, first arm")
    means_b_N, missing_b = _prompt_means(b_N_K, "paired_difference, second arm")
    differences_N = means_a_N - means_b_N
    if np.isnan(differences_N).all():
        raise DataError("paired_difference: at least one prompt must have a score in both arms; none has")
    unit: Unit = "points" if _are_rates(means_a_N) and _are_rates(means_b_N) else "difference"
    outcomes = _are_outcomes(a_N_K) and _are_outcomes(b_N_K)
    p_value, test = _sign_flip_test(differences_N[~np.isnan(differences_N)])
    return _estimate(differences_N, missing_a + missing_b, unit, outcomes, p_value, test)


def win_rate(wins: int, ties: int, losses: int) -> Estimate:
    """(wins + ties / 2) / n over independent comparisons, with the adjusted t interval on scores of 1, 0.5 and 0.

    The p value is the exact sign test, which leaves ties out (Dixon and Mood 1946).
    """
    if min(wins, ties, losses) < 0:
        raise DataError(f"win_rate: counts must not be negative, not {wins}, {ties}, {losses}")
    return win_rate_by_prompt(np.repeat([1.0, 0.5, 0.0], [wins, ties, losses])[:, None])


def win_rate_by_prompt(outcomes_N_K: Scores) -> Estimate:
    """Win rate over outcomes of 1 (win), 0.5 (tie) or 0 (loss), clustered by prompt.

    The p value is the exact sign test on prompts: above 0.5 is a win, 0.5 itself is left out.
    """
    from scipy import special

    means_N, num_missing = _prompt_means(outcomes_N_K, "win_rate")
    if not _are_outcomes(outcomes_N_K):
        raise DataError("win_rate: outcomes must be 1, 0.5, 0 or missing")
    wins, losses = int((means_N > 0.5 + 1e-9).sum()), int((means_N < 0.5 - 1e-9).sum())
    p_value = min(1.0, 2 * float(special.bdtr(min(wins, losses), wins + losses, 0.5))) if wins + losses else 1.0
    return _estimate(means_N, num_missing, "rate", True, p_value, "exact sign test without ties")


def minimum_detectable_effect(
    num_prompts: int,
    num_samples: int,
    base_rate: float | None = None,
    correlation: float = 0.5,
    power: float = 0.8,
    level: float = LEVEL,
) -> float:
    """Smallest difference in rate (0 to 1) whose `paired_difference` interval leaves out 0 with probability `power`.

    Miller, "Adding Error Bars to Evals" (arXiv 2411.00640), section 5, solved for the effect, with t in place of
    normal quantiles and 2 / N^2 for the two made-up prompts: effect = (t_level + t_power) sqrt(V / N + 2 / N^2).
    V = 2 v (1 - c) (c + 1 / K) is the variance of one prompt's difference, v = p (1 - p) averaged over the arms;
    `correlation` c is both the share of v that the prompt causes and the arms' correlation over prompts.
    `base_rate` is one arm's p, the other's lies towards 0.5; None is the worst case, v = 1/4.
    1.0 means that nothing can be detected.
    """
    from scipy import special

    if num_prompts < 2 or num_samples < 1 or not 0 <= correlation <= 1 or not 0 <= (base_rate or 0) <= 1:
        raise DataError(
            "minimum_detectable_effect: needs 2 prompts, 1 sample, correlation and base_rate in 0 to 1, not "
            f"{num_prompts}, {num_samples}, {correlation}, {base_rate}"
        )
    quantiles = sum(float(special.stdtrit(num_prompts - 1, q)) for q in ((1 + level) / 2, power))
    factor = 2 * (1 - correlation) * (correlation + 1 / num_samples)
    base = 0.5 if base_rate is None else min(base_rate, 1 - base_rate)
    effect, previous = 0.0, -1.0
    while abs(effect - previous) > 1e-9:  # the other arm's variance depends on the effect; settles in a few rounds
        previous, other = effect, min(0.5, base + effect)
        variance = (base * (1 - base) + other * (1 - other)) / 2
        effect = min(1.0, quantiles * math.sqrt(factor * variance / num_prompts + 2 / num_prompts**2))
    return effect


def _prompt_means(scores_N_K: Scores, where: str) -> tuple[Floats, int]:
    """Means over samples, shape (N,), NaN where a prompt has none; and the number of missing scores."""
    means_N, num_missing = np.full(len(scores_N_K), np.nan), 0
    for index, row in enumerate(scores_N_K):
        present = [float(score) for score in row if score is not None and not math.isnan(score)]
        if not all(map(math.isfinite, present)):
            raise DataError(f"{where}: prompt {index}: scores must be finite or missing, not {present}")
        num_missing += max(len(row), 1) - len(present)
        if present:
            means_N[index] = math.fsum(present) / len(present)
    if np.isnan(means_N).all():
        raise DataError(f"{where}: at least one of the {len(means_N)} prompts must have a score, but none has")
    return means_N, num_missing


def _are_rates(means_N: Floats) -> bool:
    return bool(np.nanmin(means_N) >= 0 and np.nanmax(means_N) <= 1)


def _are_outcomes(scores_N_K: Scores) -> bool:
    """Every score that is there is 1, 0.5 or 0."""
    return all(score is None or score in (0, 0.5, 1) or math.isnan(score) for row in scores_N_K for score in row)


def _estimate(
    means_N: Floats, num_missing: int, unit: Unit, outcomes: bool, p_value: float | None = None, test: str = ""
) -> Estimate:
    """Mean of the prompts that have one, with the interval that its kind of scores calls for."""
    means_N, limits = means_N[~np.isnan(means_N)], _LIMITS[unit]
    mean = float(means_N.mean())
    if np.ptp(means_N) <= 1e-12 * max(1.0, abs(mean)):
        (low, high), method = _interval_without_spread(mean, len(means_N), limits)
    elif outcomes:
        (low, high), method = _t_interval(np.append(means_N, limits)), "adjusted t interval over prompts"
    else:
        (low, high), method = _t_interval(means_N), "t interval over prompts"
    low, high = max(low, limits[0]), min(high, limits[1])
    method = f"{method}; {test}" if test else method
    return Estimate(mean, low, high, len(means_N), num_missing, method, p_value, unit)


def _t_interval(values_N: Floats) -> tuple[float, float]:
    """Student's interval for the mean of at least two values; unlike the bootstrap it is honest at small N."""
    from scipy import special

    num = len(values_N)
    half = float(special.stdtrit(num - 1, (1 + LEVEL) / 2) * values_N.std(ddof=1) / np.sqrt(num))
    return float(values_N.mean()) - half, float(values_N.mean()) + half


def _interval_without_spread(value: float, num: int, limits: tuple[float, float]) -> tuple[tuple[float, float], str]:
    """The exact bound where all N prompts are equal, so that 60 of 60 is not [1, 1].

    None of N prompts differed, hence at most the share q = Clopper-Pearson(0 of N).high of all prompts does; in the
    worst case those stand at one end of the range. For a rate of 0 or 1 this is the Clopper-Pearson interval.
    """
    share = exact_interval(0, num).high
    if math.isinf(limits[1]):
        return limits, "all prompts equal and range unknown: no interval"
    low, high = ((1 - share) * value + share * end for end in limits)
    return (low, high), "exact bound, all prompts equal"


def _sign_flip_test(differences_N: Floats) -> tuple[float, str]:
    """Two-sided p value of the sum of differences under random signs, and the test's name."""
    moved = differences_N[differences_N != 0]
    observed = abs(moved.sum()) - 1e-9 * max(1.0, float(np.abs(moved).sum()))
    if len(moved) <= _MAX_EXACT:
        signs = np.array(list(itertools.product((-1, 1), repeat=len(moved))), dtype=np.float64)
        return float((np.abs(signs @ moved) >= observed).mean()), "exact sign-flip test"
    generator, hits, num_blocks = np.random.default_rng(0), 0, 20
    for _ in range(num_blocks):  # in blocks, so that thousands of prompts fit in memory
        flips = generator.integers(0, 2, (_NUM_FLIPS // num_blocks, len(moved)), dtype=np.int8)
        hits += int((np.abs(2 * (flips @ moved) - moved.sum()) >= observed).sum())
    return (1 + hits) / (1 + _NUM_FLIPS), "sign-flip test, 10,000 flips, seed 0"

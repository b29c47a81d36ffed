"""Noise: how often the interval for the unlabelled pairs holds the truth, and how narrow it is, by simulation.

    python benchmarks/noise.py [--check]

500 labels on 2,000 and 20,000 pairs, asked in the order of `align review`; a tenth of the pairs is suspicious of each
kind, which means something (six and three times as many wrong pairs, at most 70 %) or nothing. `error` is the mean
distance of the estimate from the truth, `width` half of the mean interval, `written` the same for the set after its
corrections, `sample` the half width of a simple random sample: what no choice of pairs beats where suspicion means
nothing. All in points. Below stand cells beyond the promise: few labels, nearly all judges split, skipped pairs, and
stopping as soon as the interval is narrow enough. `--check`: 2,000 runs a cell, exit code 1 under the floors.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from align.evaluation.noise import HALF_WIDTH, Noise, Stratum, estimate_noise
from align.review.order import WEIGHTS, review_order

FLOOR = 0.93
"""Share of runs in which the 95 % interval holds the truth."""
CEILING_ERROR = 0.03
"""Mean distance of the estimate from the truth; half the width must stay under it too up to 5 % noise."""
TIMES = {True: (6.0, 3.0, 1.0), False: (1.0, 1.0, 1.0)}
"""Whether suspicion means something → wrong pairs in each stratum, against the last."""


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    num_pairs: int
    noise: float
    """Share of wrong pairs before any is corrected, 0 to 1."""
    is_informative: bool
    num_labels: int = 500
    shares: tuple[float, float, float] = (0.1, 0.1, 0.8)
    """Of the strata, in the order of `WEIGHTS`."""
    skipped: float = 0.0
    """Share of the asked pairs that the person skips."""
    stops_early: bool = False
    """Stop at the first multiple of ten labels, from 50 on, at which the interval is narrow enough."""

    @property
    def sizes(self) -> list[int]:
        """Pairs in each stratum."""
        return [round(share * self.num_pairs) for share in self.shares]

    def rates(self) -> list[float]:
        """Share of wrong pairs in each stratum."""
        times = TIMES[self.is_informative]
        base = self.noise / sum(share * time for share, time in zip(self.shares, times, strict=True))
        first = [min(0.7, base * time) for time in times[:2]]
        taken = sum(share * rate for share, rate in zip(self.shares, first, strict=False))
        return [*first, (self.noise - taken) / self.shares[2]]


@dataclass(frozen=True)
class Result:
    """What a case's runs came to."""

    coverage: float
    error: float
    is_near: float
    width: float
    width_written: float
    num_labels: float


def simulate(case: Case, num_runs: int, seed: int = 0) -> Result:
    """Plant wrong pairs, label in the order of `align review`, estimate, compare with what is left."""
    generator = np.random.default_rng([seed, case.num_pairs, int(1000 * case.noise), case.num_labels])
    names = np.repeat(list(WEIGHTS), case.sizes)
    order = review_order([str(index) for index in range(len(names))], names.tolist(), seed)
    asked = [str(names[index]) for index in order[: case.num_labels]]
    stops = range(50, case.num_labels + 1, 10) if case.stops_early else [case.num_labels]
    rows = []
    for _ in range(num_runs):
        wrong = [generator.random(size) < rate for size, rate in zip(case.sizes, case.rates(), strict=True)]
        skips = [generator.random(size) < case.skipped for size in case.sizes]
        for stop in stops:
            strata, left = labelled(wrong, skips, Counter(asked[:stop]))
            noise = estimate_noise(strata)
            if noise.rest.half_width <= HALF_WIDTH:
                break
        rows.append(_row(noise, left))
    held, error, width, written, num_labels = np.array(rows).T
    is_near = float((error <= CEILING_ERROR).mean())
    return Result(held.mean(), error.mean(), is_near, width.mean(), written.mean(), num_labels.mean())


def labelled(
    wrong: Sequence[np.ndarray], skips: Sequence[np.ndarray], num_asked: Counter[str]
) -> tuple[list[Stratum], int]:
    """The strata after the first so many of each (they are in random order), and the wrong ones never asked."""
    strata, left = [], 0
    for name, is_wrong, is_skipped in zip(WEIGHTS, wrong, skips, strict=True):
        num = num_asked[name]
        num_skipped = int(is_skipped[:num].sum())
        num_wrong = int((is_wrong[:num] & ~is_skipped[:num]).sum())
        strata.append(Stratum(name, len(is_wrong), num - num_skipped - num_wrong, num_wrong, 0, num_skipped))
        left += int(is_wrong[num:].sum())
    return strata, left


def _row(noise: Noise, left: int) -> tuple[float, ...]:
    truth = left / noise.total("num_rest")
    held = noise.rest.low - 1e-9 <= truth <= noise.rest.high + 1e-9
    error = abs(noise.rest.value - truth)
    return held, error, noise.rest.half_width, noise.after.half_width, noise.total("num_labelled")


def sample_width(case: Case) -> float:
    """Half width for the unlabelled pairs from a simple random sample, by the normal approximation."""
    num, rest = case.num_labels, case.num_pairs - case.num_labels
    return 1.96 * math.sqrt(case.noise * (1 - case.noise) * (1 / num + 1 / rest))


def show(case: Case, num_runs: int) -> Result:
    """Run a case and print its row."""
    found = simulate(case, num_runs)
    kind = "informative" if case.is_informative else "useless"
    print(
        f"{case.num_pairs:>6,} {found.num_labels:>6.0f} {case.noise:>6.0%} {kind:<12}{found.coverage:>8.1%}"
        f"{100 * found.error:>7.2f}{found.is_near:>8.1%}{100 * found.width:>7.2f}{100 * found.width_written:>9.2f}"
        f"{100 * sample_width(case):>8.2f}",
        flush=True,
    )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="2,000 runs a cell instead of 10,000; exit 1 on a miss")
    num_runs = 2_000 if parser.parse_args().check else 10_000
    print(" pairs labels  noise strata         holds  error within3  width  written  sample")
    cases = [Case(num, p, kind) for num in (2_000, 20_000) for kind in (True, False) for p in (0.02, 0.05, 0.1, 0.2)]
    found = {case: show(case, num_runs) for case in cases}
    print("beyond the promise: 50 labels; 60 % of the pairs split; a tenth skipped; stopped at ±3 points")
    usual = Case(2_000, 0.05, True)
    show(replace(usual, num_labels=50), num_runs)
    others = [replace(usual, shares=(0.6, 0.1, 0.3)), replace(usual, skipped=0.1), replace(usual, stops_early=True)]
    found |= {case: show(case, num_runs // 4 if case.stops_early else num_runs) for case in others}
    coverage = min(one.coverage for one in found.values())
    error = max(one.error for one in found.values())
    width = max(one.width for case, one in found.items() if case.noise <= 0.05 and not case.stops_early)
    print(
        f"holds the truth in {coverage:.1%} of runs or more (floor {FLOOR:.0%}); mean error at most {100 * error:.1f} "
        f"points; half width at most {100 * width:.1f} up to 5 % noise (ceilings {100 * CEILING_ERROR:g})"
    )
    return int(coverage < FLOOR or error > CEILING_ERROR or width > CEILING_ERROR)


if __name__ == "__main__":
    raise SystemExit(main())

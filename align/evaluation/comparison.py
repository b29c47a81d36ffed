"""Comparison: what the arms did on the held-out prompts, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from align.data.rows.pair import Prompt
from align.evaluation.arms import Answers, Arm
from align.evaluation.baseline import Baseline
from align.evaluation.measures import Measures
from align.evaluation.verdict import Verdict, damage, decide
from align.statistics import Estimate, clustered_mean, paired_difference, win_rate_by_prompt

BASE, CEILING = "base", "base + instruction"


@dataclass(frozen=True)
class Comparison:
    """What the arms did, and what follows."""

    arms: list[Arm]
    prompts: list[Prompt]
    answers: dict[str, Answers]
    scores: dict[str, list[list[float | None]]]
    """Arm → [N][K] skill of every answer."""
    rates: dict[str, Estimate]
    """Arm → mean skill, clustered by prompt."""
    measures: dict[str, Measures]
    over_base: Estimate
    baseline: Baseline | None
    over_baseline: Estimate | None
    wins_over_base: Estimate
    """Win rate of the run against base, prompt by prompt, a tie counting one half."""
    verdict: Verdict

    @property
    def trained(self) -> str:
        """Name of the arm that is judged."""
        return self.arms[-1].name


def conclude(
    arms: list[Arm],
    prompts: list[Prompt],
    answers: dict[str, Answers],
    scores: dict[str, list[list[float | None]]],
    measures: dict[str, Measures],
    baseline: Baseline | None,
) -> Comparison:
    """Differences and verdict from what was measured. The first arm is base, the last the run."""
    trained, base = arms[-1].name, arms[0].name
    over_base = paired_difference(scores[trained], scores[base])
    over_baseline = paired_difference(scores[trained], scores[baseline.name]) if baseline else None
    losses = damage(measures[trained], measures[base], over_base)
    return Comparison(
        arms,
        prompts,
        answers,
        scores,
        {name: clustered_mean(rows) for name, rows in scores.items()},
        measures,
        over_base,
        baseline,
        over_baseline,
        win_rate_by_prompt(_outcomes(scores[trained], scores[base])),
        decide(trained, over_base, losses, baseline, over_baseline),
    )


def _outcomes(
    first_N_K: Sequence[Sequence[float | None]], second_N_K: Sequence[Sequence[float | None]]
) -> list[list[float | None]]:
    """[N][K] 1 where the first is better, 0.5 for a tie, 0 where the second is; None where either is missing."""
    return [
        [None if a is None or b is None else float(np.sign(a - b) + 1) / 2 for a, b in zip(first, second, strict=True)]
        for first, second in zip(first_N_K, second_N_K, strict=True)
    ]

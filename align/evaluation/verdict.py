"""Verdict: one word for what training did, and the reasons, from measured differences only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from align.evaluation.baseline import Baseline
from align.evaluation.measures import Measures
from align.statistics import Estimate, paired_difference

MIN_RELEVANCE = 0.9
"""Of the base model's relevance."""
MIN_DISTINCT_3 = 0.8
"""Of the base model's distinct-3."""
MAX_NLL_RISE = 0.15
"""Nats per token on the general text; 0.15 is a perplexity 16 % higher."""


@dataclass(frozen=True)
class Verdict:
    """What the comparison shows."""

    word: str
    """`helped`, `not shown to beat SFT`, `worse than SFT`, `better than base`, `not shown to beat base` or `damaged`;
    another baseline's name in the place of SFT."""
    reasons: list[str]
    """Each with the numbers that it rests on."""
    estimate: Estimate | None = None
    """The difference that the word speaks of; None for `damaged`, whose limits stand in its reasons."""

    @property
    def is_damaged(self) -> bool:
        """Whether something that the base model could do was lost."""
        return self.word == "damaged"


def damage(trained: Measures, base: Measures, over_base: Estimate) -> list[str]:
    """What was lost against the base model; empty when nothing was. A likelihood that is NaN is damage, too."""
    found = []
    least = MIN_RELEVANCE * base.relevance
    if not trained.relevance >= least:
        change = paired_difference(_as_scores(trained.relevant), _as_scores(base.relevant))
        found.append(
            f"relevance: {trained.relevance:.3f} of answers belong to their prompts, {base.relevance:.3f} of base's "
            f"(at least {least:.3f} allowed): {change}"
        )
    least = MIN_DISTINCT_3 * base.distinct_3
    if trained.words == 0 < base.words:
        found.append("no answer has a word in it")
    elif trained.distinct_3 < least:  # NaN where answers are too short for it, which is no damage
        found.append(
            f"distinct-3: {trained.distinct_3:.3f} of word trigrams are no repetition, {base.distinct_3:.3f} of base's "
            f"(at least {least:.3f} allowed)"
        )
    rise = trained.general_nll - base.general_nll
    if not rise <= MAX_NLL_RISE:
        found.append(f"general text: {rise:+.3f} nats a token against base (at most {MAX_NLL_RISE:+.3f} allowed)")
    if over_base.high < 0:
        found.append(f"the skill itself fell: {over_base} against base")
    return found


def decide(
    run: str,
    over_base: Estimate,
    losses: Sequence[str],
    baseline: Baseline | None = None,
    over_baseline: Estimate | None = None,
) -> Verdict:
    """Decide from the skill's difference to base and to the baseline, and from what was lost.

    "Helped" needs an interval above zero against a baseline without flaws: otherwise plain imitation may have done the
    work. Flaws take nothing from a baseline that is as good or better.

    Args:
        run: name of the arm that is judged.
        baseline: None without one; `over_baseline` is the run's difference to it.
    """
    if losses:
        return Verdict("damaged", list(losses))
    reasons = [_standing(run, "base", over_base)]
    if baseline is None or over_baseline is None:
        reasons.append("no baseline: set compare.sft to see whether imitation alone does as much")
    else:
        reasons += [_standing(run, baseline.name, over_baseline), _control(run, baseline)]
    if not over_base.low > 0:
        return Verdict("not shown to beat base", reasons, over_base)
    if baseline is None or over_baseline is None:
        return Verdict("better than base", reasons, over_base)
    if over_baseline.high < 0:
        return Verdict(f"worse than {baseline.name}", reasons, over_baseline)
    if not over_baseline.low > 0:
        return Verdict(f"not shown to beat {baseline.name}", reasons, over_baseline)
    if baseline.flaws:
        return Verdict("better than base", reasons, over_base)
    return Verdict("helped", reasons, over_baseline)


def _as_scores(relevant: Sequence[bool]) -> list[list[float]]:
    return [[float(one)] for one in relevant]


def _standing(run: str, other: str, difference: Estimate) -> str:
    """What an interval of run − other says."""
    if difference.low > 0:
        return f"{run} beats {other}: {difference}"
    if difference.high < 0:
        return f"{run} does worse than {other}: {difference}"
    return f"{run} is not shown to beat {other}, the interval includes zero: {difference}"


def _control(run: str, baseline: Baseline) -> str:
    if baseline.flaws:
        return baseline.shortcoming
    return f"{baseline.name} learned as many chosen tokens of the same file as {run}, from the same model"

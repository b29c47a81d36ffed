"""Verdict: one word for what training did, and the reasons, from measured differences only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from align.evaluation.measures import Measures
from align.evaluation.statistics import Estimate

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
    """`helped`, `as good as SFT`, `worse than SFT`, `better than base`, `not shown` or `damaged`."""
    reasons: list[str]

    @property
    def is_damaged(self) -> bool:
        """Whether something that the base model could do was lost."""
        return self.word == "damaged"


def damage(trained: Measures, base: Measures, over_base: Estimate) -> list[str]:
    """What was lost against the base model; empty when nothing was."""
    found = []
    if not trained.relevance >= MIN_RELEVANCE * base.relevance:
        found.append(
            f"relevance fell from {base.relevance:.2f} to {trained.relevance:.2f}: answers ignore their prompts"
        )
    if not trained.distinct_3 >= MIN_DISTINCT_3 * base.distinct_3:  # NaN, too, is damage
        found.append(f"distinct-3 fell from {base.distinct_3:.2f} to {trained.distinct_3:.2f}: text repeats itself")
    rise = trained.general_nll - base.general_nll
    if not rise <= MAX_NLL_RISE:
        found.append(f"general text became {rise:.2f} nats a token less likely ({MAX_NLL_RISE} allowed)")
    if over_base.high < 0:
        found.append(f"the skill itself fell: {over_base.value:+.1%} against base")
    return found


def decide(over_base: Estimate, over_sft: Estimate | None, losses: Sequence[str], is_sft_equal: bool) -> Verdict:
    """Decide from the skill's difference to base and to SFT, and from what was lost.

    "Helped" needs an SFT arm that saw the same chosen tokens, and an interval above zero against it: otherwise plain
    imitation may have done the work.
    """
    if losses:
        return Verdict("damaged", list(losses))
    if over_base.low <= 0:
        return Verdict("not shown", ["the interval against base includes zero; see the smallest detectable difference"])
    if over_sft is None:
        return Verdict("better than base", ["no SFT arm: set compare.sft to see whether imitation alone does as much"])
    if not is_sft_equal:
        return Verdict("better than base", ["the SFT arm saw another number of chosen tokens, so it proves nothing"])
    if over_sft.low > 0:
        return Verdict("helped", ["DPO beats base, and SFT on the same chosen tokens, by intervals above zero"])
    if over_sft.high < 0:
        return Verdict("worse than SFT", ["DPO beats base, but SFT on the same chosen tokens beats DPO"])
    return Verdict("as good as SFT", ["DPO beats base, but is not shown to beat SFT on the same chosen tokens"])

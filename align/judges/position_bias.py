"""Position bias: how much a judge's verdicts depend on which answer stands first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from align.judges.base import Verdict
from align.statistics import Estimate, Interval, clustered_mean, exact_interval

NUM_MEASURED = 100
"""Pairs that are judged in both orders before the second order may be left out."""
MOST_FLIPS = 0.05
"""Upper 95 % bound of the flip rate up to which it may: of 100 pairs none may flip (upper bound 3.6 %; one: 5.4 %).

A flipped pair would be a tie; judged in one order its label is a coin toss. So at most 5 % of the pairs are kept that
should not be, half of them with the wrong label, where ten points more label noise can cost 30 points of win rate
(arXiv 2404.09824).
"""


@dataclass(frozen=True, slots=True)
class PositionBias:
    """What position did to the verdicts of a number of pairs."""

    num_pairs: int
    """Pairs that were judged, in one order or in both."""
    num_both: int
    """Pairs that were judged in both orders."""
    num_flips: int
    """Of those, the ones whose two orders disagree: another winner, or a tie in one order alone."""
    flips: Interval | None
    """Exact 95 % interval of the flip rate, 0 to 1; None where no pair was judged in both orders."""
    first: Estimate | None
    """Share of the votes that are no ties which went to whichever stood first; without bias about 0.5. Clustered by
    pair; None where all votes are ties."""

    @classmethod
    def of(cls, judged: Sequence[Sequence[Verdict]]) -> PositionBias:
        """Measure it on the verdicts of each pair, in one order or in both."""
        both = [verdicts for verdicts in judged if len(verdicts) == 2]
        num_flips = sum(is_flip(verdicts[0], verdicts[1]) for verdicts in both)
        scores_N_K = [[_SCORES[vote.winner] for verdict in verdicts for vote in verdict.votes] for verdicts in judged]
        has_winner = any(score is not None for row in scores_N_K for score in row)
        return cls(
            num_pairs=len(judged),
            num_both=len(both),
            num_flips=num_flips,
            flips=exact_interval(num_flips, len(both)) if both else None,
            first=clustered_mean(scores_N_K) if has_winner else None,
        )

    @property
    def is_negligible(self) -> bool:
        """Whether one order is enough (`MOST_FLIPS`)."""
        return self.flips is not None and self.flips.high <= MOST_FLIPS

    def __str__(self) -> str:
        if not self.num_pairs:
            return "not known, since no pair was judged"
        first = f"whichever stood first won {self.first} of the votes" if self.first else "all votes are ties"
        if self.flips is None:
            return f"{first}; flips are not known, since no pair was judged in both orders"
        rate = f"{self.num_flips / self.num_both:.1%} [{self.flips.low:.1%}, {self.flips.high:.1%}]"
        return f"{first}; the order changed the verdict of {self.num_flips} of {self.num_both} pairs, {rate}"


def is_flip(one: Verdict, other: Verdict) -> bool:
    """Whether the verdicts of a pair's two orders disagree."""
    return (one.winner, other.winner) not in (("first", "second"), ("second", "first"), ("tie", "tie"))


_SCORES: dict[str, float | None] = {"first": 1.0, "second": 0.0, "tie": None}

"""Both orders: a pair's judgement that does not depend on which answer stood first.

Every pair is judged twice, with its answers in either order, and where the two disagree it is a tie. Which order is
the first comes from a hash of the answers, so chosen and rejected have no place of their own. The second order costs
as much as the first; it is left out only where the first pairs have shown that it changes next to nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from align.data.rows.message import Messages, as_dicts
from align.judges.base import Judge, Verdict
from align.judges.position_bias import NUM_MEASURED, PositionBias, is_flip

Side = Literal["a", "b", "tie"]
Order = Literal["ab", "ba"]
_SWAPPED: dict[Side, Side] = {"a": "b", "b": "a", "tie": "tie"}
SecondOrder = Literal["auto", "always", "never"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """Which of two answers, `a` and `b`, is better, and what it rests on."""

    winner: Side
    """A tie also where the two orders disagree. Ties are not trained on."""
    orders: tuple[Order, ...]
    """Those that were judged, in the order of asking; `ba` showed `b` first."""
    votes: tuple[Side, ...]
    """Single votes, all of the first order before those of the second."""
    is_consistent: bool | None
    """Whether both orders say the same; None when one was judged."""
    reasons: tuple[str, ...]
    """One a vote. What they call A or first is the side that `orders` names first."""
    keys: tuple[str, ...]
    """One a vote: its entry in the ledger; empty where there is none."""

    def swapped(self) -> Judgement:
        """The same judgement with `a` and `b` exchanged."""
        order: dict[Order, Order] = {"ab": "ba", "ba": "ab"}
        return replace(
            self,
            winner=_SWAPPED[self.winner],
            orders=tuple(order[one] for one in self.orders),
            votes=tuple(_SWAPPED[vote] for vote in self.votes),
        )

    def to_meta(self) -> Mapping[str, Any]:
        """JSON values for a row's `meta`."""
        return {
            "winner": self.winner,
            "orders": list(self.orders),
            "votes": list(self.votes),
            "is_consistent": self.is_consistent,
            "reasons": list(self.reasons),
            "ledger": list(self.keys),
        }


class BothOrders:
    """A judge asked in both orders. One object serves one dataset: it measures the bias on the pairs that it sees."""

    def __init__(self, judge: Judge, second_order: SecondOrder = "auto", seed: int = 0) -> None:
        """With `auto` every pair is judged in both orders until 100 are done; then the second order is left out if
        the bias is negligible (`PositionBias.is_negligible`). Which 100 these are depends on when answers arrive, so
        a repeated run may decide otherwise where it is close; `always` repeats exactly.
        """
        self.name = judge.name
        self.decision: PositionBias | None = None
        """With `auto`: the figures that the second order was kept or left out on; None until then."""
        self._judge = judge
        self._second_order = second_order
        self._seed = seed
        self._judged: list[tuple[Verdict, ...]] = []

    @property
    def bias(self) -> PositionBias:
        """Measured on all pairs so far."""
        return PositionBias.of(self._judged)

    @property
    def asks_both(self) -> bool:
        """Whether the next pair is judged in both orders."""
        if self._second_order == "auto":
            return self.decision is None or not self.decision.is_negligible
        return self._second_order == "always"

    def report(self) -> str:
        """One line on position bias and what follows from it."""
        if self.decision is None:
            return f"position: {self.bias}"
        outcome = "is left out from there on" if self.decision.is_negligible else "is asked for every pair"
        return f"position, first {self.decision.num_pairs} pairs: {self.decision}; the second order {outcome}"

    async def judge(self, prompt: Messages, a: Messages, b: Messages) -> Judgement:
        """Judge one pair. Swapping `a` and `b` asks the same and swaps the winner.

        Raises:
            JudgeError: a verdict cannot be read. It counts in no figure.
            AnswerError: whoever is asked has no answer for this call.
        """
        first: Order = "ab" if self._rank(prompt, a) < self._rank(prompt, b) else "ba"
        orders: tuple[Order, ...] = (first, "ba" if first == "ab" else "ab") if self.asks_both else (first,)
        asked = ((a, b) if order == "ab" else (b, a) for order in orders)
        verdicts = await asyncio.gather(*(self._judge.verdict(prompt, *sides) for sides in asked))
        self._count(tuple(verdicts))
        winners = [_side(verdict, order) for verdict, order in zip(verdicts, orders, strict=True)]
        votes = [(vote, order) for verdict, order in zip(verdicts, orders, strict=True) for vote in verdict.votes]
        return Judgement(
            winner=winners[0] if len(set(winners)) == 1 else "tie",
            orders=orders,
            votes=tuple(_side(vote, order) for vote, order in votes),
            is_consistent=None if len(verdicts) == 1 else not is_flip(verdicts[0], verdicts[1]),
            reasons=tuple(vote.reason for vote, _ in votes),
            keys=tuple(vote.key for vote, _ in votes),
        )

    def _rank(self, prompt: Messages, answer: Messages) -> str:
        text = json.dumps([self._seed, as_dicts(prompt), as_dicts(answer)])
        return hashlib.sha256(text.encode()).hexdigest()

    def _count(self, verdicts: tuple[Verdict, ...]) -> None:
        self._judged.append(verdicts)
        if self._second_order == "auto" and self.decision is None and len(self._judged) >= NUM_MEASURED:
            self.decision = self.bias


def _side(verdict: Verdict, order: Order) -> Side:
    if verdict.winner == "tie":
        return "tie"
    return "a" if (verdict.winner == "first") == (order == "ab") else "b"

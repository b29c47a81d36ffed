"""Judge: says which of two answers is better, whatever stands behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from align.data.rows.message import Messages
from align.errors import AnswerError

Winner = Literal["first", "second", "tie"]

UNREADABLE = "judge_unreadable"
"""Reason that dropped rows are counted by when a verdict cannot be read."""


class JudgeError(AnswerError):
    """A verdict cannot be read. It never becomes a tie or a score; a builder drops the row."""

    def __init__(self, detail: str) -> None:
        super().__init__(UNREADABLE, detail)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which of two answers is better, in the order in which they were shown."""

    winner: Winner
    reason: str
    """As the judge gives it; may be empty."""
    key: str = ""
    """Of the recorded answer in the ledger; empty where there is none."""
    parts: tuple[Verdict, ...] = ()
    """The single votes that it is the majority of; empty when it is a single one."""

    @property
    def votes(self) -> tuple[Verdict, ...]:
        """The single votes, one or several."""
        return self.parts or (self,)


class Judge(Protocol):
    """Compares two answers to one prompt. It may favour a position; `BothOrders` deals with that."""

    name: str
    """Identifies the judge in cards."""

    async def verdict(self, prompt: Messages, first: Messages, second: Messages) -> Verdict:
        """Which answer is better.

        Raises:
            JudgeError: the verdict cannot be read.
            AnswerError: whoever is asked has no answer for this call.
        """
        ...


def majority(votes: tuple[Verdict, ...]) -> Verdict:
    """The winner that more than half of the votes name, else a tie."""
    if len(votes) == 1:
        return votes[0]
    for vote in votes:
        if 2 * sum(other.winner == vote.winner for other in votes) > len(votes):
            return Verdict(vote.winner, vote.reason, vote.key, votes)
    return Verdict("tie", f"no majority among {len(votes)} votes", parts=votes)

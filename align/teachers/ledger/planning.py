"""Planning ledger: finds out what a run would ask, without asking it.

Calls that are recorded get their answer; all others are noted and get a stand-in, an answer that was given before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar

from align.data.rows.message import Message
from align.teachers.ledger.entry import Answer, Call
from align.teachers.ledger.ledger import Ledger

NOBODY = Answer("?", "", "stop", "", None, None, None)
"""Stands in as long as a teacher has not answered at all."""


class PlanningLedger(Ledger):
    """A ledger that asks only while it is told to."""

    is_asking = False
    """Whether calls are really asked; else they are noted in `missing`."""

    def start_planning(self) -> None:
        """Nothing is noted yet."""
        self.missing: dict[str, Call] = {}
        self.asked: ContextVar[list[tuple[Call, Answer]]] = ContextVar("asked")
        """Where calls that are really asked are noted: set it to a list, for one row say."""
        self._examples: dict[str, Answer] = {}

    async def answer(self, call: Call, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """As `Ledger.answer` does, or a stand-in."""
        if self.is_asking:
            answer = await super().answer(call, ask)
            self.asked.get([]).append((call, answer))
            self._examples[call.asked_of] = answer
            return answer
        if (recorded := self.recorded(call)) is not None:
            self._examples[call.asked_of] = recorded
            return recorded
        self.missing[call.key] = call
        return self._examples.get(call.asked_of, NOBODY)


def messages_of(call: Call) -> list[Message]:
    """What a call asks."""
    return [Message(message["role"], message["content"]) for message in call.body["messages"]]

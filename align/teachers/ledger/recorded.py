"""Recorded teacher: any teacher that costs nothing, with its answers kept in the ledger.

So a rerun asks a local model nothing again, just as it buys nothing again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

from align.data.rows.message import Message, as_dicts
from align.teachers.base import Completion, Sampling, Teacher
from align.teachers.ledger.entry import Answer, Call
from align.teachers.ledger.ledger import Ledger


class RecordedTeacher:
    """Asks another teacher what the ledger does not have yet."""

    def __init__(self, teacher: Teacher, ledger: Ledger, version: str = "") -> None:
        """`version` tells teachers of one name apart, such as a model whose weights have changed."""
        self.name = teacher.name
        self._teacher = teacher
        self._ledger = ledger
        self._version = version

    async def complete(self, messages: Sequence[Message], sampling: Sampling, n: int = 1) -> list[Completion]:
        """Draw `n` completions; all are drawn anew if one of them is not recorded."""
        body = {"messages": as_dicts(messages), **asdict(sampling)}
        calls = [Call(self.name, self._version, body, index) for index in range(n)]
        drawing: asyncio.Task[list[Completion]] | None = None

        async def draw(call: Call) -> Answer:
            nonlocal drawing
            drawing = drawing or asyncio.ensure_future(self._teacher.complete(messages, sampling, n))
            answer = _answer((await drawing)[call.index], self._version)
            await self._ledger.record(call, answer)
            return answer

        answers = await asyncio.gather(*(self._ledger.answer(call, partial(draw, call)) for call in calls))
        return [answer.completion(call) for answer, call in zip(answers, calls, strict=True)]

    async def aclose(self) -> None:
        """End what is under way, and free the teacher. The ledger stays open."""
        await self._ledger.drain(f"{self.name}:{self._version}")
        await self._teacher.aclose()


def _answer(completion: Completion, version: str) -> Answer:
    return Answer(
        text=completion.text,
        reasoning=completion.reasoning,
        finish_reason=completion.finish_reason,
        model=version,
        prompt_tokens=completion.prompt_tokens,
        cached_tokens=None,
        completion_tokens=completion.completion_tokens,
    )

"""Scripted teacher: answers from a function, for tests and for runs that should cost nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from align.data.rows.pair import Message
from align.teachers.base import Completion, Sampling

Script = Callable[[Sequence[Message], Sampling, int], str | Completion]
"""(messages, sampling, sample index) -> the answer; plain text stands for a completion that ended by itself."""


class ScriptedTeacher:
    """A teacher without a model. Equal calls get equal answers if the script is a pure function."""

    def __init__(self, name: str, script: Script) -> None:
        self.name = name
        self.num_calls = 0
        """Calls of `complete` so far; one call may draw several completions."""
        self._script = script

    async def complete(self, messages: Sequence[Message], sampling: Sampling, n: int = 1) -> list[Completion]:
        """Ask the script for samples 0 to `n` - 1. What it raises reaches the caller."""
        self.num_calls += 1
        answers = [self._script(messages, sampling, index) for index in range(n)]
        return [Completion(answer, "stop") if isinstance(answer, str) else answer for answer in answers]

    async def aclose(self) -> None:
        """Nothing to free."""

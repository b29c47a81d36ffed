"""Scripted judge: verdicts from a function, for tests and for runs that should cost nothing."""

from __future__ import annotations

from collections.abc import Callable

from align.data.rows.message import Messages
from align.judges.base import Verdict, Winner

VerdictScript = Callable[[Messages, Messages, Messages], Winner | Verdict]
"""(prompt, first, second) -> the verdict; a winner alone stands for a verdict without a reason."""


class ScriptedJudge:
    """A judge without a model."""

    def __init__(self, name: str, script: VerdictScript) -> None:
        self.name = name
        self.num_calls = 0
        """Verdicts given so far."""
        self._script = script

    async def verdict(self, prompt: Messages, first: Messages, second: Messages) -> Verdict:
        """Ask the script. What it raises reaches the caller."""
        self.num_calls += 1
        verdict = self._script(prompt, first, second)
        return verdict if isinstance(verdict, Verdict) else Verdict(verdict, "")

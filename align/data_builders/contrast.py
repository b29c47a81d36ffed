"""Contrast: one completion under a good instruction, one under a bad one or none.

Prompt distillation: training teaches the model to do without the instruction what it does with it. With a bad
instruction on the other side it is RLCD (arXiv 2307.12950). No judge is needed.

    python -m align.data_builders.contrast data_builders/X.yaml prompts=my.jsonl
"""

from __future__ import annotations

import asyncio

from align.data.rows.instruction import Instruction
from align.data.rows.pair import Dropped, PreferencePair, Prompt
from align.data_builders.core.base import DataBuilder
from align.data_builders.core.settings import BuilderSettings
from align.teachers.base import Completion, Teacher
from align.teachers.ledger.ledger import Ledger
from align.teachers.settings import SamplingSettings, TeacherSettings


class ContrastSettings(BuilderSettings):
    """Settings of the contrast builder."""

    teacher: TeacherSettings
    """Who answers, on both sides."""
    good: Instruction
    """Instruction and examples behind the chosen side."""
    bad: Instruction = Instruction()
    """Instruction and examples behind the rejected side; empty: the plain prompt."""
    sampling: SamplingSettings = SamplingSettings()
    """How both sides are drawn."""


class ContrastBuilder(DataBuilder[ContrastSettings]):
    """Pairs of one teacher's answers, chosen under a good instruction, rejected under a bad one or none.

    The instruction itself does not enter the pair: its prompt is the plain question.
    """

    config_class = ContrastSettings
    teacher: Teacher

    def __init__(self, settings: ContrastSettings, teacher: Teacher | None = None) -> None:
        super().__init__(settings)
        self._given = teacher

    async def open(self, ledger: Ledger) -> None:
        """The teacher that was given, or the one of the settings."""
        self.teacher = self.asked(self._given or self.settings.teacher, ledger)

    async def label(self, prompt: Prompt) -> PreferencePair | Dropped:
        """Ask both sides at once."""
        chosen, rejected = await asyncio.gather(
            self._ask_under(self.settings.good, prompt), self._ask_under(self.settings.bad, prompt)
        )
        return self.pair(prompt, chosen, rejected, teacher=self.teacher.name)

    async def _ask_under(self, instruction: Instruction, prompt: Prompt) -> Completion:
        completions = await self.teacher.complete(instruction.apply(prompt.messages), self.settings.sampling.make())
        return completions[0]


if __name__ == "__main__":
    raise SystemExit(ContrastBuilder.main())

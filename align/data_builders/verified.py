"""Verified: right against wrong answers of one model, told apart by a reward that can check them.

Train on such pairs with an NLL term on the chosen side (`loss_type: [sigmoid, sft]`): without one the right answers
become less likely, too; with one GSM8K rose from 55.6 to 81.6 (arXiv 2404.19733).

    python -m align.data_builders.verified data_builders/X.yaml prompts=my_tasks.jsonl
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from align.data.files.rows import checked_rows
from align.data.lint.rules import LintSettings
from align.data.rows.instruction import Instruction
from align.data.rows.pair import Dropped, PreferencePair, Prompt
from align.data.rows.task import Task
from align.data_builders.core.base import DataBuilder
from align.data_builders.core.prompts import PromptSet, unique_prompts
from align.data_builders.core.settings import BuilderSettings, Check
from align.rewards.base import Reward, score_text
from align.teachers.base import Completion, Teacher
from align.teachers.ledger.ledger import Ledger
from align.teachers.settings import SamplingSettings, TeacherSettings


class VerifiedSettings(BuilderSettings):
    """Settings of the verified builder."""

    prompts: str
    """File of tasks: `{"prompt": [...], "answer": …}`, every other column for the reward."""
    heldout: str | None = None
    """File of tasks kept away from training."""
    student: TeacherSettings
    """The model that will be trained; it gives both sides."""
    good: Instruction = Instruction()
    """What it is told besides the prompt while it answers; it does not enter the pair."""
    right: Check
    """The reward, and the bound from which on an answer is right."""
    lint: LintSettings = LintSettings(max_similarity=1.0)
    """Right and wrong answers may differ by a figure."""
    num_samples: int = Field(default=8, ge=2)
    """Answers that are drawn for a prompt."""
    sampling: SamplingSettings = SamplingSettings(temperature=1.0)
    """How they are drawn."""


class VerifiedBuilder(DataBuilder[VerifiedSettings]):
    """Pairs of a right and a wrong answer of the model that will be trained.

    Of the right answers and of the wrong ones the first that ended by itself is taken: the order of samples is random,
    so this prefers no length and no style.
    """

    config_class = VerifiedSettings
    student: Teacher

    def __init__(self, settings: VerifiedSettings, student: Teacher | None = None) -> None:
        super().__init__(settings)
        self._given = student
        self._reward: Reward = settings.right.load()
        self.rewards = [self._reward]

    def read_prompts(self) -> PromptSet:
        """The tasks, their columns kept for the reward."""
        heldout = _read_tasks(self.settings.heldout) if self.settings.heldout else []
        return unique_prompts(_read_tasks(self.settings.prompts), heldout)

    async def open(self, ledger: Ledger) -> None:
        """The student that was given, or the one of the settings."""
        self.student = self.asked(self._given or self.settings.student, ledger)

    async def label(self, prompt: Prompt) -> PreferencePair | Dropped:
        """Draw answers, check each, and pair a right one with a wrong one."""
        messages = self.settings.good.apply(prompt.messages)
        drawn = await self.student.complete(messages, self.settings.sampling.make(), self.settings.num_samples)
        whole = [one for one in drawn if one.finish_reason == "stop" and one.text.strip()]
        scored = [(one, await score_text(self._reward, prompt, one.text)) for one in whole]
        right = [one for one, value in scored if value is not None and self.settings.right.passes(value)]
        wrong = [one for one, value in scored if value is not None and not self.settings.right.passes(value)]
        meta = {"student": self.student.name, "num_right": len(right), "num_wrong": len(wrong), "num_drawn": len(drawn)}
        if right and wrong:
            return self.pair(prompt, right[0], wrong[0], **meta)
        reason = (
            "none_ended"
            if not whole
            else "none_scored"
            if not right + wrong
            else ("all_right" if right else "all_wrong")
        )
        return Dropped(reason, f"{len(right)} right, {len(wrong)} wrong of {len(drawn)}", {**prompt.meta, **meta})


def _why_none(whole: list[Completion], right: list[Completion], wrong: list[Completion]) -> str:
    if not whole:
        return "none_ended"
    if not right and not wrong:
        return "none_scored"
    return "all_right" if right else "all_wrong"


def _read_tasks(path: str) -> list[Prompt]:
    return [Prompt(task.prompt, _meta(task.columns)) for task in checked_rows(path, Task).rows]


def _meta(columns: Any) -> dict[str, Any]:
    """Of a prompt: the columns, and those that a builder has put under `meta`."""
    own = columns.get("meta") or {}
    return {**own, **{name: value for name, value in columns.items() if name != "meta"}}


if __name__ == "__main__":
    raise SystemExit(VerifiedBuilder.main())

"""Student: a better answer against the student's own.

Chosen comes from a teacher, or from a file of existing answers (a character's real lines, a manual); rejected from the
model that will be trained, so the pair shows exactly what it would say today.

    python -m align.data_builders.student data_builders/X.yaml answers=my_answers.jsonl
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from align.data.files.rows import checked_rows
from align.data.rows.instruction import Instruction
from align.data.rows.pair import Demonstration, Dropped, PreferencePair, Prompt
from align.data_builders.core.base import DataBuilder
from align.data_builders.core.prompts import PromptSet, read_prompt_set
from align.data_builders.core.settings import BuilderSettings, PromptSource
from align.settings.base import Location
from align.teachers.base import Completion, Teacher
from align.teachers.ledger.ledger import Ledger
from align.teachers.settings import SamplingSettings, TeacherSettings

GIVEN_ANSWER = "given_answer"
"""Key of a prompt's meta under which its chosen side waits while the student is asked."""


class StudentSettings(BuilderSettings):
    """Settings of the student builder."""

    prompts: PromptSource | None = None
    """Questions for the teacher; with `answers` they come from that file."""
    answers: str | None = None
    """File of `{"prompt": [...], "completion": [...]}` rows whose completions are the chosen side."""
    teacher: TeacherSettings | None = None
    """Who gives the chosen side, when no file does."""
    good: Instruction = Instruction()
    """Instruction and examples for the teacher."""
    student: TeacherSettings
    """The model that will be trained; it gives the rejected side from the plain prompt."""
    sampling: SamplingSettings = SamplingSettings()
    """How both sides are drawn."""

    @classmethod
    def mistakes(cls, raw: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
        """Exactly one source of chosen answers."""
        if ("answers" in raw) == ("teacher" in raw):
            yield (("answers",) if "answers" in raw else ()), "exactly one of answers and teacher must be given"
        if ("answers" in raw) == ("prompts" in raw):
            yield ("prompts",), "prompts must be given with teacher, and left out with answers (its prompts are used)"


class StudentBuilder(DataBuilder[StudentSettings]):
    """Pairs of a better answer, from a teacher or a file, and the answer of the model that will be trained."""

    config_class = StudentSettings
    student: Teacher
    teacher: Teacher | None = None

    def __init__(
        self, settings: StudentSettings, teacher: Teacher | None = None, student: Teacher | None = None
    ) -> None:
        super().__init__(settings)
        self._given_teacher, self._given_student = teacher, student

    def read_prompts(self) -> PromptSet:
        """The questions, or the prompts of the file of answers, whose answers are kept at hand."""
        if self.settings.answers is None:
            return super().read_prompts()
        rows = checked_rows(self.settings.answers, Demonstration).rows
        prompts = [Prompt(row.prompt, {**row.meta, GIVEN_ANSWER: row.completion[-1].content}) for row in rows]
        heldout = read_prompt_set([], self.settings.heldout).heldout if self.settings.heldout else []
        return PromptSet(prompts, heldout, 0)

    async def open(self, ledger: Ledger) -> None:
        """Student and teacher, given or of the settings."""
        self.student = self.asked(self._given_student or self.settings.student, ledger)
        if teacher := self._given_teacher or self.settings.teacher:
            self.teacher = self.asked(teacher, ledger)

    async def label(self, prompt: Prompt) -> PreferencePair | Dropped:
        """Ask the student, and the teacher where no answer is given."""
        if self.teacher is None:
            source = self.settings.answers or ""
            return await pair_with_student(self, prompt, self.student, self.settings.sampling, source)
        sampling, good = self.settings.sampling.make(), self.settings.good.apply(prompt.messages)
        chosen, rejected = await asyncio.gather(
            self.teacher.complete(good, sampling), self.student.complete(prompt.messages, sampling)
        )
        names = {"chosen_from": self.teacher.name, "student": self.student.name}
        return self.pair(prompt, chosen[0], rejected[0], **names)


async def pair_with_student(
    builder: DataBuilder[Any], prompt: Prompt, student: Teacher, sampling: SamplingSettings, source: str
) -> PreferencePair | Dropped:
    """The answer that the prompt's meta carries against the student's own.

    Args:
        source: where the answer is from, for the pair's meta.
    """
    rejected = await student.complete(prompt.messages, sampling.make())
    chosen = Completion(prompt.meta[GIVEN_ANSWER], finish_reason="stop")
    plain = Prompt(prompt.messages, {name: value for name, value in prompt.meta.items() if name != GIVEN_ANSWER})
    return builder.pair(plain, chosen, rejected[0], chosen_from=source, student=student.name)


if __name__ == "__main__":
    raise SystemExit(StudentBuilder.main())

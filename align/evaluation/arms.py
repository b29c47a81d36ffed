"""Arms: the models that a comparison puts side by side, and their answers to the same held-out prompts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from align.data.rows.instruction import Instruction
from align.data.rows.pair import Prompt
from align.teachers.base import Completion, Sampling
from align.teachers.local import LocalTeacher


@dataclass(frozen=True)
class Arm:
    """One way of answering."""

    name: str
    model: str
    """As `align.models.resolve` takes it."""
    instruction: Instruction = field(default_factory=Instruction)
    """Put before every prompt; empty for a model that must do without."""


Answers = list[list[Completion]]
"""[N][K]: K sampled answers to each of N prompts."""


def answer(
    arms: Sequence[Arm], prompts: Sequence[Prompt], sampling: Sampling, num_samples: int, compute: str, batch_size: int
) -> dict[str, Answers]:
    """Let every arm answer every prompt. Arms of one model share it; one model is in memory at a time.

    A sample's random numbers depend on its messages and index only, so arms that see the same messages draw with the
    same numbers, which narrows the interval of their difference.
    """
    found: dict[str, Answers] = {}
    for model in dict.fromkeys(arm.model for arm in arms):
        teacher = LocalTeacher(model, dtype=compute, batch_size=batch_size)
        same_model = [arm for arm in arms if arm.model == model]
        found |= asyncio.run(_answer_with(teacher, same_model, prompts, sampling, num_samples))
    return {arm.name: found[arm.name] for arm in arms}


async def _answer_with(
    teacher: LocalTeacher, arms: Sequence[Arm], prompts: Sequence[Prompt], sampling: Sampling, num_samples: int
) -> dict[str, Answers]:
    try:
        calls = [
            teacher.complete(arm.instruction.apply(prompt.messages), sampling, num_samples)
            for arm in arms
            for prompt in prompts
        ]
        answers = await asyncio.gather(*calls)
    finally:
        await teacher.aclose()
    return {arm.name: list(answers[i * len(prompts) : (i + 1) * len(prompts)]) for i, arm in enumerate(arms)}

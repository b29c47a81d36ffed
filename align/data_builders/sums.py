"""Sums: tasks with a checkable answer and no teacher, to try GRPO on any machine.

python -m align.data_builders.sums data_builders/sums.yaml output_dir=data/mine
"""

from __future__ import annotations

import random
from itertools import combinations_with_replacement

from pydantic import Field

from align.data.rows.message import Message
from align.data.rows.task import Task
from align.data_builders.core.tasks import TaskBuilder, TaskSettings
from align.errors import ConfigError


class SumsSettings(TaskSettings):
    """Settings of the sums builder."""

    smallest: int = Field(default=0, ge=0)
    """Smallest summand."""
    largest: int = Field(default=20, ge=1)
    """Largest summand."""


class SumsBuilder(TaskBuilder[SumsSettings]):
    """Sums of two numbers, each pair of numbers once: 19 + 9 and 9 + 19 never stand on both sides of the split.

    The output folder holds `tasks.jsonl`, `heldout.jsonl`, `builder.yaml` and the card `README.md`.
    """

    config_class = SumsSettings

    def tasks(self) -> tuple[list[Task], list[Task]]:
        """Tasks to train on and tasks kept away, the same for the same settings.

        Raises:
            ConfigError: when there are fewer pairs of numbers than tasks.
        """
        wanted = self.settings.num_tasks + self.settings.num_heldout
        numbers = range(self.settings.smallest, self.settings.largest + 1)
        pairs = list(combinations_with_replacement(numbers, 2))
        if len(pairs) < wanted:
            raise ConfigError(f"num_tasks and num_heldout: are {wanted}, but there are {len(pairs)} pairs of numbers")
        random_state = random.Random(self.settings.seed)
        chosen = [tuple(random_state.sample(pair, 2)) for pair in random_state.sample(pairs, wanted)]
        tasks = [self._task(first, second) for first, second in chosen]
        return tasks[: self.settings.num_tasks], tasks[self.settings.num_tasks :]

    def _task(self, first: int, second: int) -> Task:
        question = (Message("user", f"{first} + {second} ="),)
        return Task(self.settings.instruction.apply(question), {"answer": first + second})


if __name__ == "__main__":
    raise SystemExit(SumsBuilder.main())

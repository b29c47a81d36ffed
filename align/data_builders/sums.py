"""Sums: tasks with a checkable answer and no teacher, to try GRPO on any machine.

python -m align.data_builders.sums data_builders/sums.yaml output_dir=data/mine
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

from pydantic import Field

from align.command_line import entry_point
from align.config import Settings
from align.data.files import write_rows
from align.data.instruction import Instruction
from align.data.message import Message
from align.data.task import Task
from align.errors import ConfigError
from align.records import write_text
from align.runs import versions
from align.yaml_file import write_yaml


class SumsSettings(Settings):
    """Settings of the sums builder."""

    output_dir: str
    """Folder of the dataset."""
    smallest: int = Field(default=0, ge=0)
    """Smallest summand."""
    largest: int = Field(default=20, ge=1)
    """Largest summand."""
    num_tasks: int = Field(default=150, ge=1)
    """Sums to train on."""
    num_heldout: int = Field(default=80, ge=1)
    """Sums kept away from training."""
    instruction: Instruction = Instruction()
    """What stands before each sum."""
    seed: int = 0
    """Which sums, and on which side of the split."""


class SumsBuilder:
    """Sums of two numbers, each pair of numbers once: 19 + 9 and 9 + 19 never stand on both sides of the split.

    The output folder holds `tasks.jsonl`, `heldout.jsonl`, `builder.yaml` and the card `README.md`.
    """

    config_class = SumsSettings

    def __init__(self, settings: SumsSettings) -> None:
        self.settings = settings

    @classmethod
    def main(cls, arguments: Sequence[str] | None = None) -> int:
        """The `python -m` entry point; returns the exit code."""
        return entry_point(
            "align.data_builders.sums",
            cls.__doc__ or "",
            cls.config_class,
            lambda settings: cls(settings).run(),
            arguments,
        )

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

    def run(self) -> None:
        """Write both files and the card."""
        tasks, heldout = self.tasks()
        folder = Path(self.settings.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        write_yaml(folder / "builder.yaml", self.settings.model_dump(mode="json"))
        write_rows(folder / "tasks.jsonl", tasks)
        write_rows(folder / "heldout.jsonl", heldout)
        write_text(folder / "README.md", self._card())
        example = tasks[0]
        print(f"{folder / 'tasks.jsonl'}: {len(tasks)} tasks; {folder / 'heldout.jsonl'}: {len(heldout)}")
        print(f"  the first: {example.prompt[-1].content}  answer: {example.columns['answer']}")

    def _task(self, first: int, second: int) -> Task:
        question = (Message("user", f"{first} + {second} ="),)
        return Task(self.settings.instruction.apply(question), {"answer": first + second})

    def _card(self) -> str:
        settings: dict[str, Any] = self.settings.model_dump(mode="json", exclude={"output_dir"})
        lines = [f"# {Path(self.settings.output_dir).name}", "", (SumsBuilder.__doc__ or "").split("\n")[0], ""]
        lines += [
            "| | |",
            "|---|---|",
            *(f"| {name.replace('_', ' ')} | `{value}` |" for name, value in settings.items()),
        ]
        return "\n".join([*lines, f"| made with | align {versions()['align-recipes']} |", ""])


if __name__ == "__main__":
    raise SystemExit(SumsBuilder.main())

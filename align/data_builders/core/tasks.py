"""Tasks: what builders of checkable tasks share. They ask no teacher; their rows feed GRPO."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import Field

from align.data.files.rows import write_rows
from align.data.rows.instruction import Instruction
from align.data.rows.task import Task
from align.settings.base import Settings
from align.settings.command import entry_point
from align.settings.names import module_of
from align.store.records import write_text, write_yaml
from align.store.run_folder import versions


class TaskSettings(Settings):
    """Settings that every builder of tasks has."""

    output_dir: str
    """Folder of the dataset."""
    num_tasks: int = Field(default=150, ge=1)
    """Tasks to train on."""
    num_heldout: int = Field(default=80, ge=1)
    """Tasks kept away from training."""
    instruction: Instruction = Instruction()
    """What stands before each question."""
    seed: int = 0
    """Which tasks, and on which side of the split."""


S = TypeVar("S", bound=TaskSettings)


class TaskBuilder(ABC, Generic[S]):
    """Makes tasks with checkable answers. Subclasses name their settings and fill in `tasks`.

    The output folder holds `tasks.jsonl`, `heldout.jsonl`, `builder.yaml` and the card `README.md`.
    """

    config_class: ClassVar[type[TaskSettings]]
    settings: S

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @classmethod
    def main(cls, arguments: Sequence[str] | None = None) -> int:
        """The `python -m` entry point; returns the exit code."""
        return entry_point(module_of(cls), cls.__doc__ or "", cls.config_class, cls._run_with, arguments)

    @classmethod
    def _run_with(cls, settings: Any) -> None:
        cls(settings).run()

    @abstractmethod
    def tasks(self) -> tuple[list[Task], list[Task]]:
        """Tasks to train on and tasks kept away, the same for the same settings; no question is on both sides."""

    def notes(self) -> list[str]:
        """Sentences that a user should know of; they are printed, and stand in the card."""
        return []

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
        for note in self.notes():
            print(f"  {note}")

    def _card(self) -> str:
        settings: dict[str, Any] = self.settings.model_dump(mode="json", exclude={"output_dir"})
        lines = [f"# {Path(self.settings.output_dir).name}", "", (type(self).__doc__ or "").split("\n")[0], ""]
        lines += [line for note in self.notes() for line in (note, "")]
        lines += [
            "| | |",
            "|---|---|",
            *(f"| {name.replace('_', ' ')} | `{value}` |" for name, value in settings.items()),
        ]
        return "\n".join([*lines, f"| made with | align {versions()['align-recipes']} |", ""])

"""Reasoning gym: tasks with checkable answers from the generators of reasoning-gym, and no teacher.

    python -m align.data_builders.reasoning_gym data_builders/reasoning.yaml output_dir=data/mine

Source: https://github.com/open-thought/reasoning-gym (arXiv 2505.24760).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from pydantic import Field

from align.data.rows.message import Message
from align.data.rows.task import Task
from align.data_builders.core.tasks import TaskBuilder, TaskSettings
from align.errors import ConfigError
from align.rewards.base import refuse_without
from align.rewards.reasoning import EVALUATED, make_check
from align.settings.base import Location, did_you_mean
from align.text.normal import without_case_and_blanks
from align.text.shorten import shorten

_OURS = {"seed": "give seed beside tasks", "size": "give num_tasks and num_heldout"}
_DRAWS = 20
"""Questions that are drawn for each one that is wanted, before there are said to be too few different ones."""


class ReasoningGymSettings(TaskSettings):
    """Settings of the reasoning-gym builder."""

    tasks: dict[str, dict[str, Any]] = Field(min_length=1)
    """Name of a task → its difficulty and other parameters, passed to reasoning-gym as they are: `{}` for its defaults.
    Several tasks get equal shares of both sides."""

    @classmethod
    def mistakes(cls, raw: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
        """Names and parameters that the installed reasoning-gym does not know."""
        tasks = raw.get("tasks")
        if not isinstance(tasks, Mapping):
            return
        try:
            known = _known_tasks()
        except ConfigError as error:
            yield ("tasks",), str(error)
            return
        for name, parameters in tasks.items():
            if name not in known:
                yield ("tasks", name), f"tasks.{name} is not a task of reasoning-gym{did_you_mean(name, list(known))}"
            elif isinstance(parameters, Mapping):
                yield from _parameter_mistakes(name, parameters, known[name])


class ReasoningGymBuilder(TaskBuilder[ReasoningGymSettings]):
    """Tasks of reasoning-gym, each question once, so that none stands on both sides of the split.

    Rows hold `answer`, for a person to read, and `entry`, which `align.rewards.reasoning.ReasoningGym` scores by. The
    output folder holds `tasks.jsonl`, `heldout.jsonl`, `builder.yaml` and the card `README.md`.
    """

    config_class = ReasoningGymSettings

    def tasks(self) -> tuple[list[Task], list[Task]]:
        """Tasks to train on and tasks kept away, the same for the same settings.

        Raises:
            ConfigError: a task does not take its parameters, has too few different questions, or cannot be scored from
                a file.
        """
        settings = self.settings
        sides: tuple[list[Task], list[Task]] = ([], [])
        names = list(settings.tasks)
        if min(settings.num_tasks, settings.num_heldout) < len(names):
            raise ConfigError(f"num_tasks and num_heldout: must be at least {len(names)}, one of each task")
        for index, name in enumerate(names):
            wanted = [_share(number, index, len(names)) for number in (settings.num_tasks, settings.num_heldout)]
            drawn = self._different(name, sum(wanted))
            sides[0].extend(drawn[: wanted[0]])
            sides[1].extend(drawn[wanted[0] :])
        return sides

    def notes(self) -> list[str]:
        """Which scorers run what the model writes."""
        names = [name for name in self.settings.tasks if name in EVALUATED]
        text = f"to score {', '.join(names)}, reasoning-gym evaluates the model's answer as Python: use a machine that "
        return [f"{text}holds nothing secret"] if names else []

    def _different(self, name: str, num_wanted: int) -> list[Task]:
        """The first questions of a task, each once, whatever its case and spaces."""
        parameters = self.settings.tasks[name]
        dataset = _dataset(name, parameters, self.settings.seed, num_wanted * _DRAWS)
        found: dict[str, Task] = {}
        for index in range(num_wanted * _DRAWS):
            entry = dataset[index]
            if (question := without_case_and_blanks(entry["question"])) not in found:
                found[question] = self._task(name, parameters, entry)
            if len(found) == num_wanted:
                return list(found.values())
        raise ConfigError(
            f"tasks.{name}: {num_wanted} different questions are wanted, but {num_wanted * _DRAWS} draws with "
            f"{parameters} brought {len(found)}; lower num_tasks and num_heldout, or widen its parameters"
        )

    def _task(self, name: str, parameters: dict[str, Any], entry: dict[str, Any]) -> Task:
        row = {"task": name, "parameters": parameters, **entry}
        try:
            row = json.loads(json.dumps(row, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"tasks.{name}: its entries cannot be kept in a file: {error}; leave it out") from error
        score = self._check((row, row["answer"])) if isinstance(row["answer"], str) else None
        if score != 1.0:
            raise ConfigError(
                f"tasks.{name}: cannot be scored from a file: read back, its own answer "
                f"{shorten(str(row['answer']), 60)!r} scores {score} instead of 1; leave it out"
            )
        question = (Message("user", entry["question"]),)
        return Task(self.settings.instruction.apply(question), {"answer": row["answer"], "entry": row})

    @cached_property
    def _check(self) -> Any:
        return make_check()


def _known_tasks() -> dict[str, Any]:
    """Name → the class of its parameters."""
    refuse_without("reasoning_gym", "this builder", "reasoning")
    import reasoning_gym  # noqa: F401  # fills the registry
    from reasoning_gym.factory import DATASETS

    return {name: kinds[1] for name, kinds in DATASETS.items()}


def _parameter_mistakes(name: str, parameters: Mapping[str, Any], kind: Any) -> Iterator[tuple[Location, str]]:
    known = [field.name for field in dataclasses.fields(kind) if field.name not in _OURS]
    for parameter in parameters:
        where = f"tasks.{name}.{parameter}"
        if parameter in _OURS:
            yield ("tasks", name, parameter), f"{where} is set by the builder; {_OURS[parameter]}"
        elif parameter not in known:
            yield ("tasks", name, parameter), f"{where} is not a parameter of it{did_you_mean(parameter, known)}"


def _dataset(name: str, parameters: dict[str, Any], seed: int, size: int) -> Any:
    import reasoning_gym

    try:
        return reasoning_gym.create_dataset(name, **parameters, seed=seed, size=size)
    except (AssertionError, TypeError, ValueError) as error:  # it checks its parameters with assert
        raise ConfigError(f"tasks.{name}: reasoning-gym does not take {parameters}: {error}") from error


def _share(number: int, index: int, num_shares: int) -> int:
    return number // num_shares + (index < number % num_shares)


if __name__ == "__main__":
    raise SystemExit(ReasoningGymBuilder.main())

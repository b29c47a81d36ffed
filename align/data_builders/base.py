"""Builder: makes one dataset of pairs from prompts.

A builder is one coroutine, `label`. The base class owns the rest: reading prompts, running labels side by side with no
barrier between steps, the gates and checks, keeping every outcome at once, writing in order, counting, the card.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from align.command_line import entry_point
from align.data.files import write_rows
from align.data.gates import apply_gates
from align.data.pair import Dropped, Message, PreferencePair, Prompt, RowError, as_dicts
from align.data_builders.journal import Journal, Outcome, outcome_key
from align.data_builders.prompts import PromptSet, read_prompt_set
from align.data_builders.report import BuildReport, Progress, print_report, write_card
from align.data_builders.settings import BuilderSettings, Check
from align.errors import DataError
from align.records import write_json
from align.rewards.base import Reward, score
from align.teachers.base import Completion
from align.yaml_file import write_yaml

S = TypeVar("S", bound=BuilderSettings)

_NOT_ASKED = {"prompts", "heldout", "output_dir", "gates", "checks", "concurrency"}
"""Settings that do not shape an answer: changing one asks nothing again."""


class DataBuilder(ABC, Generic[S]):
    """Makes pairs from prompts. Subclasses name their settings and fill in `label`.

    The output folder holds `pairs.jsonl`, `dropped.jsonl`, `heldout.jsonl`, `builder.yaml`, the card `README.md`, and
    `journal.jsonl`, from which a rerun takes every answer that it already has.
    """

    config_class: ClassVar[type[BuilderSettings]]
    settings: S

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @classmethod
    def main(cls, arguments: Sequence[str] | None = None) -> int:
        """The `python -m` entry point; returns the exit code."""
        module = f"align.data_builders.{cls.__name__.removesuffix('Builder').lower()}"
        return entry_point(module, cls.__doc__ or "", cls.config_class, cls._run_with, arguments)

    @classmethod
    def _run_with(cls, settings: Any) -> None:
        cls(settings).run()

    @abstractmethod
    async def label(self, prompt: Prompt) -> Outcome:
        """Make the row of one prompt; one that cannot be made is `Dropped(reason)`. Broad exceptions are not caught."""

    async def open(self) -> None:
        """Load what `label` asks. Called once, and only if there is something left to ask."""

    async def aclose(self) -> None:
        """Free what `open` loaded."""

    def read_prompts(self) -> PromptSet:
        """The prompts to label; a builder whose prompts lie elsewhere overrides this."""
        return read_prompt_set(self.settings.prompts, self.settings.heldout)

    def asking(self, prompt: Prompt) -> dict[str, Any]:
        """What shapes the outcome of a prompt besides its messages; if it changes, the prompt is asked again."""
        return self.settings.model_dump(mode="json", exclude=_NOT_ASKED)

    def run(self) -> BuildReport:
        """Build the dataset and print what was kept and dropped.

        Raises:
            DataError: when a held-out prompt is also a training prompt, or no pair is left.
        """
        return asyncio.run(self.build())

    async def build(self) -> BuildReport:
        """Build the dataset from within an event loop."""
        prompts = self.read_prompts()
        folder = Path(self.settings.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        write_yaml(folder / "builder.yaml", self.settings.model_dump(mode="json"))
        write_rows(folder / "heldout.jsonl", prompts.heldout)
        journal = Journal(folder / "journal.jsonl")
        try:
            outcomes, num_reused = await self._label_all(prompts.training, journal)
        finally:
            journal.close()
        judged = [await self._judge(outcome) for outcome in outcomes]
        report = BuildReport.of(prompts, judged, num_reused)
        self._write(folder, report)
        if not report.rows:
            raise DataError(f"{folder}: every prompt was dropped ({report.reasons()}); see {folder / 'dropped.jsonl'}")
        return report

    def pair(self, prompt: Prompt, chosen: Completion, rejected: Completion, **meta: Any) -> PreferencePair | Dropped:
        """A pair of two completions, or why they make none."""
        sides = {"chosen": chosen, "rejected": rejected}
        meta = {
            **prompt.meta,
            "builder": type(self).__name__,
            **meta,
            **{
                name: {"finish_reason": side.finish_reason, "tokens": side.completion_tokens}
                for name, side in sides.items()
            },
        }
        texts = {name: side.text for name, side in sides.items()}
        for name, text in texts.items():
            if not text.strip():
                return Dropped(f"{name}_empty", "", {**meta, "prompt": prompt.to_dict()["prompt"], "texts": texts})
        try:
            answers = {name: (Message("assistant", text),) for name, text in texts.items()}
            return PreferencePair(prompt.messages, answers["chosen"], answers["rejected"], meta)
        except RowError as error:
            reason = "identical" if error.reason == "same_sides" else "unusable"
            return Dropped(reason, str(error), {**meta, "prompt": prompt.to_dict()["prompt"], "texts": texts})

    async def _label_all(self, prompts: Sequence[Prompt], journal: Journal) -> tuple[list[Outcome], int]:
        keys = [outcome_key(type(self).__name__, self.asking(prompt), prompt) for prompt in prompts]
        missing = [(key, prompt) for key, prompt in zip(keys, prompts, strict=True) if key not in journal.outcomes]
        num_reused = len(prompts) - len(missing)
        if missing:
            await self.open()
            try:
                await self._ask_missing(missing, journal, Progress(len(prompts), num_reused))
            finally:
                await self.aclose()
        return [journal.outcomes[key] for key in keys], num_reused

    async def _ask_missing(self, missing: Sequence[tuple[str, Prompt]], journal: Journal, progress: Progress) -> None:
        slots = asyncio.Semaphore(self.settings.concurrency)

        async def one(key: str, prompt: Prompt) -> None:
            async with slots:
                outcome = await self.label(prompt)
            journal.add(key, outcome)
            progress.show(await self._judge(outcome))

        tasks = [asyncio.create_task(one(key, prompt)) for key, prompt in missing]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _judge(self, outcome: Outcome) -> Outcome:
        """Gates and checks: pure functions of the row, so changing one asks nothing again."""
        if not isinstance(outcome, PreferencePair):
            return outcome
        dropped = apply_gates(outcome, self.settings.gates)
        if dropped is None:
            for side, check, reward in self._checks:
                dropped = dropped or await self._check(outcome, side, check, reward)
        return outcome if dropped is None else replace(dropped, meta={**dropped.meta, "row": outcome.to_dict()})

    @cached_property
    def _checks(self) -> list[tuple[str, Check, Reward]]:
        """(side, check, its reward), each reward made once."""
        sides = {"chosen": self.settings.checks.chosen, "rejected": self.settings.checks.rejected}
        return [(side, check, check.load()) for side, checks in sides.items() for check in checks]

    async def _check(self, pair: PreferencePair, side: str, check: Check, reward: Reward) -> Dropped | None:
        value = await score(reward, pair.prompt, as_dicts(getattr(pair, side)))
        if value is None:
            return Dropped(f"{side}_not_scored", f"{check.use} could not say")
        return None if check.passes(value) else Dropped(f"{side}_failed_check", f"{check.use} gave {value:g}")

    def _write(self, folder: Path, report: BuildReport) -> None:
        write_rows(folder / "pairs.jsonl", report.rows)
        write_rows(folder / "dropped.jsonl", report.dropped)
        write_json(folder / "counts.json", report.counts())
        write_card(folder, type(self).__name__, self.settings, report)
        print_report(folder, report)

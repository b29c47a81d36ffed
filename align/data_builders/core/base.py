"""Builder: makes one dataset of pairs from prompts.

A builder is one coroutine, `label`. The base class owns the rest: reading prompts, running labels side by side with no
barrier between steps, the ledger that keeps every answer, the gates and checks, writing in order, counting, the card.
"""

from __future__ import annotations

import asyncio
import signal
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from align.data.files.rows import write_rows
from align.data.lint.report import LintReport
from align.data.lint.rules import lint_rows
from align.data.rows.instruction import Instruction
from align.data.rows.pair import Dropped, Message, PreferencePair, Prompt, RowError, as_dicts
from align.data_builders.core.asked import AskedTeachers
from align.data_builders.core.card import write_card
from align.data_builders.core.live_view import Progress
from align.data_builders.core.prompts import PromptSet, read_prompt_set
from align.data_builders.core.report import BuildReport, Outcome, print_report
from align.data_builders.core.settings import BuilderSettings
from align.data_builders.core.sieve import Sieve, judged
from align.errors import AnswerError, DataError, PreemptedError
from align.judges.both_orders import BothOrders
from align.judges.verdict_text import VERDICT_SCHEMA
from align.rewards.base import AsksTeacher, Reward
from align.settings.command import entry_point
from align.settings.names import module_of
from align.store.records import write_json, write_yaml
from align.teachers.base import Completion, Teacher
from align.teachers.ledger.budget import Budget
from align.teachers.ledger.ledger import Ledger
from align.teachers.settings import TeacherSettings

S = TypeVar("S", bound=BuilderSettings)
L = TypeVar("L", bound=Ledger)


class DataBuilder(ABC, Generic[S]):
    """Makes pairs from prompts. Subclasses name their settings and fill in `label`.

    The output folder holds `pairs.jsonl`, `dropped.jsonl`, `heldout.jsonl`, `builder.yaml`, `counts.json` and the card
    `README.md`. Every answer is kept in the ledger (`align/teachers/ledger/`), so a rerun asks only what is new.
    """

    config_class: ClassVar[type[BuilderSettings]]
    settings: S

    def __init__(self, settings: S) -> None:
        self.settings = settings
        self.judge: BothOrders | None = None
        """The one of the settings, once it is ready; set before, it takes that one's place."""
        self.rewards: list[Reward] = []
        """Those that `label` asks; one that asks a teacher is lent the ledger."""
        self._teachers = AskedTeachers()
        self._sieve = Sieve(settings)

    @classmethod
    def main(cls, arguments: Sequence[str] | None = None) -> int:
        """The `python -m` entry point; returns the exit code."""
        flags = {"--plan": cls._plan_with}
        return entry_point(module_of(cls), cls.__doc__ or "", cls.config_class, cls._run_with, arguments, flags)

    @classmethod
    def _run_with(cls, settings: Any) -> None:
        cls(settings).run()

    @classmethod
    def _plan_with(cls, settings: Any) -> None:
        from align.data_builders.core.plan import make_plan, print_plan

        builder = cls(settings)
        print_plan(asyncio.run(make_plan(builder)), settings)
        if builder.asking_rewards:
            print("  not in this plan: calls of checks that ask a teacher (Rubric); the budget counts them")

    @abstractmethod
    async def label(self, prompt: Prompt) -> Outcome:
        """Make the row of one prompt; one that cannot be made is `Dropped(reason)`. Broad exceptions are not caught."""

    async def open(self, ledger: Ledger) -> None:
        """Get ready what `label` asks, each with `asked`."""

    def asked(
        self, who: TeacherSettings | Teacher, ledger: Ledger, json_schema: Mapping[str, Any] | None = None
    ) -> Teacher:
        """A teacher that is asked through the ledger, for `open` (`AskedTeachers.get`)."""
        return self._teachers.get(who, ledger, json_schema)

    @property
    def teachers(self) -> list[Teacher]:
        """All that are asked, once they are ready."""
        return self._teachers.all

    @property
    def asking_rewards(self) -> list[AsksTeacher]:
        """Rewards that ask a teacher, of `label` and of the checks."""
        rewards: list[Any] = [*self.rewards, *self._sieve.rewards]
        return [reward for reward in rewards if isinstance(reward, AsksTeacher)]

    def instructions(self) -> dict[str, Instruction]:
        """What the sides were made with and must not repeat: `good` and `bad`, where the settings have them."""
        found = {name: getattr(self.settings, name, None) for name in ("good", "bad")}
        return {name: value for name, value in found.items() if isinstance(value, Instruction)}

    def read_prompts(self) -> PromptSet:
        """The prompts to label; a builder whose prompts lie elsewhere overrides this."""
        return read_prompt_set(self.settings.prompts, self.settings.heldout)

    async def find_prompts(self) -> PromptSet:
        """The prompts to label, when the teachers are ready; a builder that must ask for them overrides this."""
        return self.read_prompts()

    def run(self) -> BuildReport:
        """Build the dataset and print what was kept and dropped.

        Raises:
            DataError: when a held-out prompt is also a training prompt, or no pair is left.
            PreemptedError: on SIGTERM, when all answers on their way have been kept.
        """
        return asyncio.run(self._build_until_told())

    async def build(self) -> BuildReport:
        """Build the dataset from within an event loop."""
        folder = Path(self.settings.output_dir)
        async with self.opened(self.open_ledger(Ledger)) as ledger:
            prompts = await self.find_prompts()
            folder.mkdir(parents=True, exist_ok=True)
            write_yaml(folder / "builder.yaml", self.settings.model_dump(mode="json"))
            write_rows(folder / "heldout.jsonl", prompts.heldout)
            outcomes = await self._label_all(prompts.training, ledger)
        lint = self._lint(outcomes, prompts)
        kept = {id(row) for row in lint.kept}
        left = [outcome for outcome in outcomes if isinstance(outcome, Dropped) or id(outcome) in kept]
        report = BuildReport.of(prompts, [*left, *lint.dropped], ledger)
        self._write(folder, report, lint)
        if not report.rows:
            raise DataError(f"{folder}: every prompt was dropped ({report.reasons()}); see {folder / 'dropped.jsonl'}")
        return report

    def open_ledger(self, kind: type[L]) -> L:
        """The ledger that the settings name; spending is summed under `output_dir`."""
        settings = self.settings
        budget = Budget(settings.budget)
        return kind.open(settings.ledger_path, str(Path(settings.output_dir)), budget, settings.ask_failed_again)

    @asynccontextmanager
    async def opened(self, ledger: L) -> AsyncIterator[L]:
        """With all teachers ready; at the end what is on its way is waited for, and everything is closed."""
        async with ledger:
            try:
                await self.open(ledger)
                if self.settings.judge is not None and self.judge is None:
                    teacher = self.asked(self.settings.judge.teacher, ledger, VERDICT_SCHEMA)
                    self.judge = self.settings.judge.make(teacher)
                for reward in self.asking_rewards:
                    reward.ask_through(partial(self.asked, ledger=ledger))
                yield ledger
            finally:
                await self._teachers.aclose()

    def pair(self, prompt: Prompt, chosen: Completion, rejected: Completion, **meta: Any) -> PreferencePair | Dropped:
        """A pair of two completions, or why they make none."""
        sides = {"chosen": chosen, "rejected": rejected}
        meta = {
            **prompt.meta,
            "builder": type(self).__name__,
            **meta,
            **{
                name: {"finish_reason": side.finish_reason, "tokens": side.completion_tokens, "ledger": side.key}
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

    async def outcome(self, prompt: Prompt) -> Outcome:
        """What `label` makes, if it passes gates, checks and judge; a call without an answer drops its row only."""
        try:
            outcome = await self._sieve.sift(await self.label(prompt))
            return await self.judged(outcome) if isinstance(outcome, PreferencePair) else outcome
        except AnswerError as error:
            return Dropped(error.reason, error.detail, {**prompt.meta, "prompt": as_dicts(prompt.messages)})
        except RowError as error:  # an answer that no message can hold
            return Dropped("unusable", str(error), {**prompt.meta, "prompt": as_dicts(prompt.messages)})

    async def judged(self, pair: PreferencePair) -> PreferencePair | Dropped:
        """The pair, if the judge prefers its chosen side; a builder that has judged already overrides this."""
        return pair if self.judge is None else await judged(pair, self.judge)

    async def _build_until_told(self) -> BuildReport:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        is_told = asyncio.Event()

        def stop() -> None:
            is_told.set()
            task.cancel()

        with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
            loop.add_signal_handler(signal.SIGTERM, stop)
        try:
            return await self.build()
        except asyncio.CancelledError:
            if not is_told.is_set():
                raise
            raise PreemptedError("stopped; every answer is kept, and the same command goes on from there") from None

    async def _label_all(self, prompts: Sequence[Prompt], ledger: Ledger) -> list[Outcome]:
        slots = asyncio.Semaphore(self.settings.concurrency)

        async def one(prompt: Prompt) -> Outcome:
            async with slots:
                outcome = await self.outcome(prompt)
            progress.show(outcome)
            return outcome

        async with Progress(len(prompts), ledger) as progress:
            tasks = [asyncio.create_task(one(prompt)) for prompt in prompts]
            try:
                return await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def _lint(self, outcomes: Sequence[Outcome], prompts: PromptSet) -> LintReport:
        """What has to go beside the other rows; the order of prompts decides which of two copies stays."""
        rows = [outcome for outcome in outcomes if not isinstance(outcome, Dropped)]
        against = {"heldout.jsonl": prompts.heldout} if prompts.heldout else {}
        gates = self.settings.gates
        return lint_rows(rows, self.settings.lint, gates=gates, instructions=self.instructions(), against=against)

    def _write(self, folder: Path, report: BuildReport, lint: LintReport) -> None:
        pairs = [row for row in report.rows if isinstance(row, PreferencePair)]
        groups = [row for row in report.rows if not isinstance(row, PreferencePair)]
        write_rows(folder / "pairs.jsonl", pairs)
        if groups:
            write_rows(folder / "groups.jsonl", groups)
        write_rows(folder / "dropped.jsonl", [*report.dropped, *report.skipped, *report.unread])
        write_json(folder / "counts.json", report.counts())
        write_card(folder, type(self).__name__, self.settings, report, lint)
        print_report(folder, report)
        print(lint.text())
        if self.judge is not None:
            print(f"  judge {self.judge.name}: {self.judge.report()}")

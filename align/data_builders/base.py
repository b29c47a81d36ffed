"""Builder: makes one dataset of pairs from prompts.

A builder is one coroutine, `label`. The base class owns the rest: reading prompts, running labels side by side with no
barrier between steps, the ledger that keeps every answer, the gates and checks, writing in order, counting, the card.
"""

from __future__ import annotations

import asyncio
import re
import signal
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from align.command_line import entry_point
from align.data.files import write_rows
from align.data.gates import apply_gates
from align.data.instruction import Instruction
from align.data.lint import lint_rows
from align.data.lint_report import LintReport
from align.data.pair import Dropped, Message, PreferencePair, Prompt, RowError, as_dicts
from align.data_builders.card import write_card
from align.data_builders.progress import Progress
from align.data_builders.prompts import PromptSet, read_prompt_set
from align.data_builders.report import BuildReport, Outcome, print_report
from align.data_builders.settings import BuilderSettings, Check
from align.errors import AnswerError, DataError, PreemptedError
from align.judges.both_orders import BothOrders, Judgement
from align.judges.reading import VERDICT_SCHEMA
from align.records import write_json
from align.rewards.base import AsksTeacher, Reward, score
from align.teachers.base import Completion, Teacher
from align.teachers.budget import Budget
from align.teachers.ledger import Ledger
from align.teachers.recorded import RecordedTeacher
from align.teachers.settings import TeacherSettings
from align.yaml_file import write_yaml

S = TypeVar("S", bound=BuilderSettings)
L = TypeVar("L", bound=Ledger)


def judge_meta(judgement: Judgement) -> dict[str, Any]:
    """What a row keeps of a judgement whose `a` is the chosen side."""
    names = {"a": "chosen", "b": "rejected", "tie": "tie"}
    votes = Counter(names[vote] for vote in judgement.votes)
    margin = (votes["chosen"] - votes["rejected"]) / len(judgement.votes)
    return {
        "winner": names[judgement.winner],
        "votes": dict(votes),
        "margin": round(margin, 6),
        "is_consistent": judgement.is_consistent,
        "reasons": list(judgement.reasons),
        "ledger": list(judgement.keys),
    }


class DataBuilder(ABC, Generic[S]):
    """Makes pairs from prompts. Subclasses name their settings and fill in `label`.

    The output folder holds `pairs.jsonl`, `dropped.jsonl`, `heldout.jsonl`, `builder.yaml`, `counts.json` and the card
    `README.md`. Every answer is kept in the ledger (`align/teachers/ledger.py`), so a rerun asks only what is new.
    """

    config_class: ClassVar[type[BuilderSettings]]
    settings: S

    def __init__(self, settings: S) -> None:
        self.settings = settings
        self.judge: BothOrders | None = None
        """The one of the settings, once it is ready; set before, it takes that one's place."""
        self.rewards: list[Reward] = []
        """Those that `label` asks; one that asks a teacher is lent the ledger."""
        self._teachers: list[tuple[TeacherSettings | Teacher, Mapping[str, Any] | None, Teacher]] = []
        """(As it was given, the JSON schema that it is held to, as it is asked)."""

    @classmethod
    def main(cls, arguments: Sequence[str] | None = None) -> int:
        """The `python -m` entry point; returns the exit code."""
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__.removesuffix("Builder")).lower()
        module = f"align.data_builders.{name}"
        return entry_point(
            module, cls.__doc__ or "", cls.config_class, cls._run_with, arguments, {"--plan": cls._plan_with}
        )

    @classmethod
    def _run_with(cls, settings: Any) -> None:
        cls(settings).run()

    @classmethod
    def _plan_with(cls, settings: Any) -> None:
        from align.data_builders.plan import make_plan, print_plan

        builder = cls(settings)
        print_plan(asyncio.run(make_plan(builder)), settings)
        if builder._asking_rewards:
            print("  not in this plan: calls of checks that ask a teacher (Rubric); the budget counts them")

    @abstractmethod
    async def label(self, prompt: Prompt) -> Outcome:
        """Make the row of one prompt; one that cannot be made is `Dropped(reason)`. Broad exceptions are not caught."""

    async def open(self, ledger: Ledger) -> None:
        """Get ready what `label` asks, each with `asked`."""

    def asked(
        self, who: TeacherSettings | Teacher, ledger: Ledger, json_schema: Mapping[str, Any] | None = None
    ) -> Teacher:
        """A teacher that is asked through the ledger; equal settings share one, if they share the schema too.

        It is closed at the end, unless it was given as an object: that one is its owner's. `json_schema` is what an
        endpoint's answers are held to (`TeacherSettings.make`).
        """
        is_held = isinstance(who, TeacherSettings) and who.is_endpoint
        schema = json_schema if is_held else None
        for known, known_schema, teacher in self._teachers:
            is_equal = known is who or (isinstance(who, TeacherSettings) and known == who)
            if is_equal and known_schema == schema:
                return teacher
        made = who.make(ledger, schema) if isinstance(who, TeacherSettings) else RecordedTeacher(who, ledger)
        self._teachers.append((who, schema, made))
        return made

    @property
    def teachers(self) -> list[Teacher]:
        """All that are asked, once they are ready."""
        return [teacher for *_, teacher in self._teachers]

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
                for reward in self._asking_rewards:
                    reward.ask_through(partial(self.asked, ledger=ledger))
                yield ledger
            finally:
                for who, _, teacher in self._teachers:
                    if isinstance(who, TeacherSettings):
                        await teacher.aclose()
                self._teachers.clear()

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
            outcome = await self._gate(await self.label(prompt))
            return await self.judged(outcome) if isinstance(outcome, PreferencePair) else outcome
        except AnswerError as error:
            return Dropped(error.reason, error.detail, {**prompt.meta, "prompt": as_dicts(prompt.messages)})
        except RowError as error:  # an answer that no message can hold
            return Dropped("unusable", str(error), {**prompt.meta, "prompt": as_dicts(prompt.messages)})

    async def judged(self, pair: PreferencePair) -> PreferencePair | Dropped:
        """The pair with what the judge said of it, dropped where it does not prefer the chosen side in both orders."""
        if self.judge is None:
            return pair
        judgement = await self.judge.judge(pair.prompt, pair.chosen, pair.rejected)
        meta = {**pair.meta, "judge": judge_meta(judgement)}
        if judgement.winner == "a":
            return replace(pair, meta=meta)
        row = {"row": pair.to_dict()}
        if judgement.winner == "tie":
            detail = "both are as good" if judgement.is_consistent is not False else "the two orders disagree"
            return Dropped("judged_tie", detail, {**meta, **row})
        return Dropped("judged_worse", "the judge prefers the rejected side", {**meta, **row})

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

    async def _gate(self, outcome: Outcome) -> Outcome:
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

    @property
    def _asking_rewards(self) -> list[AsksTeacher]:
        rewards: list[Any] = [*self.rewards, *(reward for _, _, reward in self._checks)]
        return [reward for reward in rewards if isinstance(reward, AsksTeacher)]

    async def _check(self, pair: PreferencePair, side: str, check: Check, reward: Reward) -> Dropped | None:
        try:
            value = await score(reward, pair.prompt, as_dicts(getattr(pair, side)), pair.meta)
        except AnswerError as error:
            return Dropped(error.reason, f"{side}: {error.detail}")
        if value is None:
            return Dropped(f"{side}_not_scored", f"{check.use} could not say")
        return None if check.passes(value) else Dropped(f"{side}_failed_check", f"{check.use} gave {value:g}")

    def _lint(self, outcomes: Sequence[Outcome], prompts: PromptSet) -> LintReport:
        """What has to go beside the other rows; the order of prompts decides which of two copies stays."""
        rows = [outcome for outcome in outcomes if not isinstance(outcome, Dropped)]
        found = {name: getattr(self.settings, name, None) for name in ("good", "bad")}
        instructions = {name: value for name, value in found.items() if isinstance(value, Instruction)}
        against = {"heldout.jsonl": prompts.heldout} if prompts.heldout else {}
        gates = self.settings.gates
        return lint_rows(rows, self.settings.lint, gates=gates, instructions=instructions, against=against)

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

"""Report: what a builder shows while it works, what it counts at the end, and the card beside the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from align.data.pair import Dropped, Group, PreferencePair
from align.data_builders.journal import Outcome
from align.data_builders.prompts import PromptSet
from align.data_builders.settings import BuilderSettings
from align.records import write_text
from align.runs import versions


@dataclass(frozen=True)
class BuildReport:
    """What became of the prompts."""

    rows: list[PreferencePair | Group]
    dropped: list[Dropped]
    num_prompts: int
    num_repeated: int
    num_reused: int
    """Outcomes taken from the journal instead of being asked again."""

    @classmethod
    def of(cls, prompts: PromptSet, outcomes: Sequence[Outcome], num_reused: int) -> BuildReport:
        """Tell kept rows from dropped ones, in the order of the prompts."""
        rows = [outcome for outcome in outcomes if not isinstance(outcome, Dropped)]
        dropped = [outcome for outcome in outcomes if isinstance(outcome, Dropped)]
        return cls(rows, dropped, len(outcomes), prompts.num_repeated, num_reused)

    def counts(self) -> dict[str, Any]:
        """All counts; kept and dropped add up to the prompts."""
        reasons = dict(Counter(row.reason for row in self.dropped).most_common())
        return {
            "prompts": self.num_prompts,
            "repeated_prompts": self.num_repeated,
            "reused": self.num_reused,
            "kept": len(self.rows),
            "dropped": len(self.dropped),
            "dropped_by_reason": reasons,
        }

    def reasons(self) -> str:
        """`reason count, reason count`."""
        return ", ".join(f"{reason} {count}" for reason, count in self.counts()["dropped_by_reason"].items())


class Progress:
    """The first pair as soon as there is one, then a line at every tenth of the work."""

    def __init__(self, num_prompts: int, num_done: int) -> None:
        self.num_prompts = num_prompts
        self.num_done = num_done
        self.num_dropped = 0
        self._has_shown_pair = False

    def show(self, outcome: Outcome) -> None:
        """Count one finished prompt."""
        self.num_done += 1
        self.num_dropped += isinstance(outcome, Dropped)
        if isinstance(outcome, PreferencePair) and not self._has_shown_pair:
            self._has_shown_pair = True
            print_pair(outcome)
        step = max(1, self.num_prompts // 10)
        if self.num_done % step == 0 or self.num_done == self.num_prompts:
            print(f"  {self.num_done}/{self.num_prompts} prompts done, {self.num_dropped} dropped", flush=True)


def print_pair(pair: PreferencePair) -> None:
    """One pair on the terminal, chosen beside rejected."""
    from rich.columns import Columns
    from rich.console import Console
    from rich.panel import Panel
    from rich.text import Text

    console = Console(highlight=False)
    width = max(30, console.width // 2 - 2)
    chosen, rejected = ("\n".join(m.content for m in side) for side in (pair.chosen, pair.rejected))
    console.print(f"\n  {pair.prompt[-1].content}", style="bold", markup=False)
    console.print(
        Columns(
            [
                Panel(Text(chosen), title="chosen", border_style="green", width=width),
                Panel(Text(rejected), title="rejected", border_style="red", width=width),
            ]
        )
    )


def print_report(folder: Path, report: BuildReport) -> None:
    """The counts, on the terminal."""
    reused = f" ({report.num_reused} answered before)" if report.num_reused else ""
    repeated = f", {report.num_repeated} repeated prompts asked once" if report.num_repeated else ""
    print(f"{folder / 'pairs.jsonl'}: {len(report.rows)} pairs from {report.num_prompts} prompts{reused}{repeated}")
    for reason, count in report.counts()["dropped_by_reason"].items():
        print(f"  dropped {count:>4}  {reason}")
    if report.dropped:
        print(f"  every dropped row: {folder / 'dropped.jsonl'}")


def write_card(folder: Path, builder: str, settings: BuilderSettings, report: BuildReport) -> None:
    """Write `README.md` beside the rows: how many, how long, from whom, and what was dropped."""
    pairs = [row for row in report.rows if isinstance(row, PreferencePair)]
    lines = [f"# {folder.name}", "", f"{builder}; every setting is in `builder.yaml`.", "", "| | |", "|---|---|"]
    lines += [f"| {name.replace('_', ' ')} | {value} |" for name, value in report.counts().items() if value != {}]
    if pairs:
        chosen, rejected = ([len(getattr(p, side)[-1].content) for p in pairs] for side in ("chosen", "rejected"))
        longer = sum(c > r for c, r in zip(chosen, rejected, strict=True)) / len(pairs)
        lines += [
            f"| characters, median chosen / rejected | {median(chosen):g} / {median(rejected):g} |",
            f"| chosen is the longer side | {longer:.0%} |",
        ]
    asked = settings.model_dump(mode="json", include={"teacher", "student", "sampling"})
    lines += [f"| {name} | `{value}` |" for name, value in asked.items()]
    lines += [f"| made with | align {versions()['align-recipes']}, transformers {versions()['transformers']} |", ""]
    write_text(folder / "README.md", "\n".join(lines))

"""Report: what a builder counts at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.cells import cell_len

from align.data.rows.pair import Dropped, Group, PreferencePair
from align.data_builders.core.coverage import Coverage, coverage, coverage_rows
from align.data_builders.core.prompts import PromptSet
from align.teachers.ledger.budget import UNITS, in_words
from align.teachers.ledger.ledger import Ledger, Totals

Outcome = PreferencePair | Group | Dropped
"""What becomes of a prompt."""


@dataclass(frozen=True)
class BuildReport:
    """What became of the prompts."""

    rows: list[PreferencePair | Group]
    dropped: list[Dropped]
    num_prompts: int
    num_repeated: int
    totals: Totals
    """Calls and tokens of this start."""
    spent: dict[str, int]
    """By this dataset so far, in billionths of each currency."""
    skipped: list[Dropped] = field(default_factory=list)
    """Lines of a corpus that made no prompt."""
    unread: list[Dropped] = field(default_factory=list)
    """What could not be read of a corpus, or was said of it and is not so."""
    chapters: Coverage = field(default_factory=dict)
    """What became of the lines of each chapter; empty where prompts have none."""

    @classmethod
    def of(cls, prompts: PromptSet, outcomes: Sequence[Outcome], ledger: Ledger) -> BuildReport:
        """Tell kept rows from dropped ones, in the order of the prompts."""
        rows = [outcome for outcome in outcomes if not isinstance(outcome, Dropped)]
        dropped = [outcome for outcome in outcomes if isinstance(outcome, Dropped)]
        spent = {currency: amount for currency, amount in ledger.budget.spent.items() if amount}
        chapters = coverage(rows, prompts.heldout, [*dropped, *prompts.skipped])
        counts = len(outcomes), prompts.num_repeated, ledger.totals, spent
        return cls(rows, dropped, *counts, prompts.skipped, prompts.unread, chapters)

    def counts(self) -> dict[str, Any]:
        """All counts; kept and dropped add up to the prompts."""
        counts: dict[str, Any] = {
            "prompts": self.num_prompts,
            "repeated_prompts": self.num_repeated,
            "kept": len(self.rows),
            "dropped": len(self.dropped),
            "dropped_by_reason": _by_reason(self.dropped),
            "spent": {currency: amount / UNITS for currency, amount in self.spent.items()},
        }
        if self.skipped:
            counts |= {"skipped": len(self.skipped), "skipped_by_reason": _by_reason(self.skipped)}
        if self.unread:
            counts |= {"unread": len(self.unread), "unread_by_reason": _by_reason(self.unread)}
        return counts | ({"chapters": self.chapters} if self.chapters else {})

    def reasons(self) -> str:
        """`reason count, reason count`."""
        lost = _by_reason([*self.dropped, *self.skipped, *self.unread])
        return ", ".join(f"{reason} {count}" for reason, count in lost.items())


def print_report(folder: Path, report: BuildReport) -> None:
    """The counts, on the terminal."""
    repeated = f", {report.num_repeated} repeated prompts asked once" if report.num_repeated else ""
    totals = report.totals
    print(f"{folder / 'pairs.jsonl'}: {len(report.rows)} pairs from {report.num_prompts} prompts{repeated}")
    print(
        f"  calls: {totals.num_answered} answered now, {totals.num_recorded} found in the ledger; "
        f"{totals.prompt_tokens:,} prompt and {totals.completion_tokens:,} completion tokens"
    )
    for currency, amount in report.spent.items():
        print(f"  spent on {folder} so far: {in_words(amount, currency)}")
    for fate in ("dropped", "skipped", "unread"):
        for reason, count in report.counts().get(f"{fate}_by_reason", {}).items():
            print(f"  {fate} {count:>4}  {reason}")
    if report.chapters:
        _print_coverage(report.chapters)
    if report.dropped or report.skipped or report.unread:
        print(f"  every dropped row: {folder / 'dropped.jsonl'}")


def _print_coverage(chapters: Coverage) -> None:
    rows = coverage_rows(chapters)
    width = max(cell_len(row[0]) for row in rows)
    for chapter, lines, paired, heldout, rest in rows:
        name = chapter + " " * (width - cell_len(chapter))
        print(f"  {name}  {lines:>6}  {paired:>6}  {heldout:>8}  {rest}".rstrip())


def _by_reason(rows: Sequence[Dropped]) -> dict[str, int]:
    return dict(Counter(row.reason for row in rows).most_common())

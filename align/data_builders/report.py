"""Report: what a builder counts at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.data.pair import Dropped, Group, PreferencePair
from align.data_builders.prompts import PromptSet
from align.teachers.budget import UNITS, in_words
from align.teachers.ledger import Ledger, Totals

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

    @classmethod
    def of(cls, prompts: PromptSet, outcomes: Sequence[Outcome], ledger: Ledger) -> BuildReport:
        """Tell kept rows from dropped ones, in the order of the prompts."""
        rows = [outcome for outcome in outcomes if not isinstance(outcome, Dropped)]
        dropped = [outcome for outcome in outcomes if isinstance(outcome, Dropped)]
        spent = {currency: amount for currency, amount in ledger.budget.spent.items() if amount}
        return cls(rows, dropped, len(outcomes), prompts.num_repeated, ledger.totals, spent)

    def counts(self) -> dict[str, Any]:
        """All counts; kept and dropped add up to the prompts."""
        reasons = dict(Counter(row.reason for row in self.dropped).most_common())
        return {
            "prompts": self.num_prompts,
            "repeated_prompts": self.num_repeated,
            "kept": len(self.rows),
            "dropped": len(self.dropped),
            "dropped_by_reason": reasons,
            "spent": {currency: amount / UNITS for currency, amount in self.spent.items()},
        }

    def reasons(self) -> str:
        """`reason count, reason count`."""
        return ", ".join(f"{reason} {count}" for reason, count in self.counts()["dropped_by_reason"].items())


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
    for reason, count in report.counts()["dropped_by_reason"].items():
        print(f"  dropped {count:>4}  {reason}")
    if report.dropped:
        print(f"  every dropped row: {folder / 'dropped.jsonl'}")

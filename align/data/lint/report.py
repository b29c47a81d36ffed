"""Lint report: what the checks found, as one table on the terminal, plain text or Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Literal

from align.data.lint.openings import Openings
from align.data.rows.pair import Dropped, Row

if TYPE_CHECKING:
    from rich.table import Table

Verdict = Literal["goes", "warning", "note", "ok", "not checked"]

LENGTH_TELLS = 0.7
"""Share of pairs from which "the longer side" (or the shorter) is what the file teaches. Of people's own choices the
longer answer makes up 62.2 % (`longest` in AlpacaEval's evaluators_leaderboard.csv)."""

_COLOURS = {"goes": "red", "warning": "yellow", "ok": "green", "not checked": "dim", "note": ""}


@dataclass(frozen=True)
class Finding:
    """One check over the whole file."""

    check: str
    num_rows: int
    """That it concerns."""
    num_all: int
    """That it looked at."""
    verdict: Verdict
    """`goes`: the rows have to go; the others cost no row."""
    note: str
    """What was found first, or what the figure means."""

    @classmethod
    def of_lengths(cls, lengths: Sequence[tuple[int, int]]) -> Finding:
        """How often chosen is the longer side, with the exact 95 % interval; equal lengths are left out."""
        from scipy.stats import binomtest

        num_longer = sum(chosen > rejected for chosen, rejected in lengths)
        num_unequal = sum(chosen != rejected for chosen, rejected in lengths)
        chosen, rejected = (median(side) for side in zip(*lengths, strict=True))
        note = f"median characters {chosen:g} / {rejected:g}"
        if not num_unequal:
            return cls("chosen is longer", 0, 0, "ok", note)
        interval = binomtest(num_longer, num_unequal).proportion_ci(0.95)
        is_extreme = interval.low > LENGTH_TELLS or interval.high < 1 - LENGTH_TELLS
        note = f"[{interval.low:.1%}, {interval.high:.1%}]; {note}"
        if is_extreme:
            note += "; length alone tells the side"
        return cls("chosen is longer", num_longer, num_unequal, "warning" if is_extreme else "ok", note)

    @classmethod
    def of_openings(cls, openings: Openings, num_pairs: int) -> Finding:
        """Openings that tell the side: always a warning, since no pair is at fault alone."""
        shown = [
            f"{one.words!r} opens {one.num_pairs} {one.side}, {one.num_others} others" for one in openings.found[:3]
        ]
        more = f"; and {len(openings.found) - 3} more" if len(openings.found) > 3 else ""
        verdict: Verdict = "warning" if openings.found else "ok"
        return cls("opening tells the side", openings.num_told, num_pairs, verdict, "; ".join(shown) + more)

    @property
    def cells(self) -> tuple[str, str, str, str, str]:
        """Check, rows, share, verdict, note."""
        if self.verdict == "not checked":
            return self.check, "–", "–", self.verdict, self.note
        share = f"{self.num_rows / self.num_all:.1%}" if self.num_all else "–"
        return self.check, f"{self.num_rows:,}", share, self.verdict, self.note


@dataclass(frozen=True)
class LintReport:
    """What is kept, what goes and why; together they are all the rows."""

    kind: str
    """Class of the rows, `PreferencePair` for example."""
    kept: list[Row]
    """In the file's order."""
    dropped: list[Dropped]
    """In the file's order; `meta` holds `row` and `where`."""
    findings: list[Finding]

    @property
    def warnings(self) -> list[Finding]:
        """What costs no row, but should be known."""
        return [finding for finding in self.findings if finding.verdict == "warning"]

    def table(self) -> Table:
        """For a terminal."""
        from rich.table import Table
        from rich.text import Text

        table = Table(*_HEADER[:1], box=None, pad_edge=False)
        for name, justify in zip(_HEADER[1:], ("right", "right", "left", "left"), strict=True):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]  # rich wants a literal
        for finding in self.findings:
            check, *numbers, verdict, note = finding.cells
            table.add_row(check, *numbers, Text(verdict, _COLOURS[verdict]), Text(note))
        return table

    def text(self) -> str:
        """The same table as plain text, a line a check."""
        cells = [_HEADER, *(finding.cells for finding in self.findings)]
        widths = [max(len(row[column]) for row in cells) for column in range(4)]
        lines = []
        for check, rows, share, verdict, note in cells:
            numbers = f"{rows:>{widths[1]}}  {share:>{widths[2]}}"
            lines.append(f"{check:<{widths[0]}}  {numbers}  {verdict:<{widths[3]}}  {note}".rstrip())
        return "\n".join(lines)

    def markdown(self) -> str:
        """The same table for a card."""
        cells = [_HEADER, ("---",) * 5, *(finding.cells for finding in self.findings)]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells)


_HEADER = ("check", "rows", "share", "verdict", "note")

"""Coverage: what became of the lines of each chapter, where prompts come from a text that has chapters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from align.data.rows.pair import Dropped

Coverage = dict[str, Counter[str]]
"""Chapter → `paired`, `held out` or a reason → number of lines."""


def coverage(kept: Iterable[Any], heldout: Iterable[Any], dropped: Iterable[Dropped]) -> Coverage:
    """Count lines by the chapter in their `meta`; empty where no row has one."""
    table: Coverage = {}
    named = [*((row, "paired") for row in kept), *((row, "held out") for row in heldout)]
    for row, fate in [*named, *((row, row.reason) for row in dropped)]:
        if "chapter" in row.meta:
            table.setdefault(row.meta["chapter"], Counter())[fate] += 1
    return table


def coverage_rows(table: Mapping[str, Counter[str]]) -> list[tuple[str, str, str, str, str]]:
    """Chapter, lines found, paired, held out, not paired by reason; with a header and the sum of all."""
    rows = [("chapter", "lines", "paired", "held out", "not paired")]
    total: Counter[str] = sum(table.values(), Counter())
    for chapter, counts in [*table.items(), ("all", total)]:
        reasons = [(reason, n) for reason, n in counts.most_common() if reason not in ("paired", "held out")]
        text = ", ".join(f"{reason} {number}" for reason, number in reasons)
        rows.append((chapter, str(counts.total()), str(counts["paired"]), str(counts["held out"]), text))
    return rows

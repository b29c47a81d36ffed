"""Chapters: which are kept away from training, and what became of the lines of each."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from align.data.rows.pair import Dropped
from align.errors import ConfigError
from align.settings.base import did_you_mean

Coverage = dict[str, Counter[str]]
"""Chapter → `paired`, `held out` or a reason → number of lines."""


def chosen_chapters(
    titles: Sequence[str], with_lines: Sequence[str], wanted: Sequence[str] | float, seed: int
) -> set[str]:
    """The titles to hold out, by name or as a share that is rounded up.

    Args:
        titles: of all chapters.
        with_lines: of those that have something to learn; a share is of these.

    Raises:
        ConfigError: when a name is none of the titles, or no chapter is left to train on.
    """
    known, useful = list(dict.fromkeys(titles)), list(dict.fromkeys(with_lines))
    if isinstance(wanted, float):
        held_out = set(random.Random(seed).sample(sorted(useful), math.ceil(wanted * len(useful))))
    else:
        if unknown := [name for name in wanted if name not in known]:
            hint = did_you_mean(unknown[0], known)
            raise ConfigError(f"heldout_chapters: {unknown[0]!r} is not a chapter; there are {', '.join(known)}{hint}")
        held_out, useful = set(wanted), known
    if useful and held_out >= set(useful):
        text = f"heldout_chapters: must leave a chapter to train on, but holds out all {len(useful)}"
        raise ConfigError(f"{text} ({', '.join(useful)}); chapter_heading says which lines open a chapter")
    return held_out


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

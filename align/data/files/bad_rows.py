"""Bad rows: which they are and why, and the one error that lists them, a few of each reason."""

from __future__ import annotations

import itertools
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_LINES = 20
"""Lines of the error that lists bad rows."""
MAX_OF_A_REASON = 3
"""Bad rows that it lists of one reason; the others are counted."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used."""

    where: str
    """`file:line`."""
    reason: str
    """Short slug that bad rows are counted by."""
    detail: str
    """What must hold, what it is instead, what to do."""
    looks_like: str = ""
    """Another library's format whose columns the row has."""

    def __str__(self) -> str:
        return f"{self.where}: {self.detail}"


def listing(bad: Sequence[BadRow], path: Path, num_good: int, to_drop: str = "set on_bad_rows: drop") -> str:
    """The text of the error: how many rows of which reasons, the first few of each, and what to do.

    Args:
        to_drop: what a user does to go on with the good rows.
    """
    reasons = Counter(one.reason for one in bad)
    counts = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common())
    lines = [f"{path}: {len(bad):,} of {num_good + len(bad):,} rows cannot be used ({counts})"]
    listed = _first_of_each_reason(bad, MAX_LINES - 3)
    lines += [f"  {one}" for one in listed]
    if left := reasons - Counter(one.reason for one in listed):
        lines.append("  and " + ", ".join(f"{count:,} more of {reason}" for reason, count in left.most_common()))
    todo = f"correct them, or {to_drop} to go on with the other {num_good:,}"
    lines.append(todo if num_good else "no row is left; correct them")
    if looks_like := next((one.looks_like for one in bad if one.looks_like), ""):
        lines.append(f"they look like {looks_like}; to convert them: {conversion(path)}")
    return "\n".join(lines)


def conversion(path: Path) -> str:
    """The command that makes our rows of a file in another library's format."""
    target = path.with_name(f"{path.stem}-pairs.jsonl")
    return shlex.join(["align", "convert", str(path), str(target), "--to", "align"])


def _first_of_each_reason(bad: Sequence[BadRow], num: int) -> list[BadRow]:
    """At most `num` of them in their order: the first of every reason, before the second of any."""
    seen: defaultdict[str, Iterator[int]] = defaultdict(itertools.count)
    ranks = [next(seen[one.reason]) for one in bad]
    places = sorted((rank, index) for index, rank in enumerate(ranks) if rank < MAX_OF_A_REASON)[:num]
    return [bad[index] for index in sorted(index for _, index in places)]

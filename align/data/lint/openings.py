"""Openings: first words that stand on one side of many pairs and nearly never on the other.

Every persona has some. But where the opening alone tells the side, a model can satisfy the loss with it and learn
nothing of what follows.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

from align.text.scripts import UNSPACED

MIN_SHARE = 0.05
"""Of all pairs, that an opening must stand in."""
MIN_COUNT = 8
"""Pairs that it must stand in: eight on one side and none on the other is chance once in 128."""
MAX_OTHER = 0.05
"""Of its pairs, in which it may stand on the other side."""


class Opening(NamedTuple):
    """First words that tell the side."""

    words: str
    side: Literal["chosen", "rejected"]
    num_pairs: int
    """That have it on this side."""
    num_others: int
    """That have it on the other side."""


class Openings(NamedTuple):
    """All of them, and how far they lead."""

    found: list[Opening]
    """The most frequent first; one that only continues another is left out."""
    num_told: int
    """Pairs of which at least one side begins with one."""


def telling_openings(starts: Sequence[tuple[str, str]]) -> Openings:
    """Find the openings of one to four words (or Chinese characters) that tell the side.

    Args:
        starts: of each pair the beginning of chosen and of rejected, as `normalised` makes them.
    """
    prefixes = [(_prefixes(chosen), _prefixes(rejected)) for chosen, rejected in starts]
    chosen = Counter(prefix for pair in prefixes for prefix in pair[0])
    rejected = Counter(prefix for pair in prefixes for prefix in pair[1])
    least = max(MIN_COUNT, MIN_SHARE * len(starts))
    found = [
        *(Opening(words, "chosen", num, rejected[words]) for words, num in chosen.items() if num >= least),
        *(Opening(words, "rejected", num, chosen[words]) for words, num in rejected.items() if num >= least),
    ]
    telling = {one.words: one for one in found if one.num_others <= MAX_OTHER * one.num_pairs}
    shortest = [one for one in telling.values() if not any(prefix in telling for prefix in _prefixes(one.words)[:-1])]
    shortest.sort(key=lambda one: -one.num_pairs)
    sides = {one.words: one.side for one in shortest}
    num_told = sum(
        any(sides.get(prefix) == "chosen" for prefix in pair[0])
        or any(sides.get(prefix) == "rejected" for prefix in pair[1])
        for pair in prefixes
    )
    return Openings(shortest, num_told)


def _prefixes(text: str) -> list[str]:
    """The first one to four words, the shortest first."""
    match = _FIRST.match(text)
    return [text[: match.end(group)] for group in range(1, 5) if match.end(group) > 0] if match else []


_WORD = rf"([{UNSPACED}]|[^\s{UNSPACED}]+)\s*"
_FIRST = re.compile(rf"{_WORD}(?:{_WORD}(?:{_WORD}(?:{_WORD})?)?)?")

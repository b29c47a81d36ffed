"""Suspicion: which pairs are more likely to be wrong than others, from what judges said and from the text alone.

It decides only how often a pair is asked. Where it means nothing, the estimate is as valid and a little wider.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import quantiles

from align.data.lint.gates import cut_off, refusal, side_text, wrong_language
from align.data.rows.pair import PreferencePair
from align.data.rows.valid import is_finite

SPLIT, NEAR, OTHER = "split", "near", "other"
"""Names of the strata: judges disagreed; a gate nearly fired, or the margin is among the lowest tenth; the others."""

LENGTH_RATIO = 3.0
"""One side has at least so many times the characters of the other."""
SIMILARITY = 0.8
"""Share of neighbouring characters that the sides have in common, from which on they nearly say the same."""
END_CHARS = 150
"""Characters that are read from each end of a long answer: 20,000 pairs should not keep a person waiting."""
LANGUAGE_SHARE = 0.6
"""An answer with less of it in the prompt's script is mixed; the gate asks for a quarter."""


def strata_of(pairs: Sequence[PreferencePair]) -> list[str]:
    """The stratum of each pair: `split`, `near` or `other`."""
    margins = [value for pair in pairs if (value := _margin(pair)) is not None]
    low_margin = quantiles(margins, n=10)[0] if len(margins) >= 20 else None
    return [_stratum(pair, low_margin) for pair in pairs]


def is_split(judge: Mapping[str, object]) -> bool:
    """Judges disagreed, with each other, with themselves in the other order, or with the pair as it stands."""
    votes = judge.get("votes")
    counts = [count for count in votes.values() if is_finite(count)] if isinstance(votes, Mapping) else []
    is_divided = sum(count > 0 for count in counts) > 1
    return is_divided or judge.get("is_consistent") is False or judge.get("winner") in ("rejected", "tie")


def nearly_gated(pair: PreferencePair) -> bool:
    """A gate for pairs fires, or would with a stricter threshold. Of long answers only both ends are read."""
    chosen, rejected = side_text(pair.chosen), side_text(pair.rejected)
    short, long = sorted((len(chosen), len(rejected)))
    is_cut_off = any(cut_off(pair.meta[name]) for name in _SIDES if isinstance(pair.meta.get(name), Mapping))
    if is_cut_off or long >= LENGTH_RATIO * max(short, 1) or refusal(chosen):
        return True
    ends = [_ends(chosen), _ends(rejected)]
    return _is_mixed(pair, ends) or _similarity(*ends) >= SIMILARITY


def _stratum(pair: PreferencePair, low_margin: float | None) -> str:
    judge = pair.meta.get("judge")
    if isinstance(judge, Mapping) and is_split(judge):
        return SPLIT
    margin = _margin(pair)
    if margin is not None and (margin <= 0 or (low_margin is not None and margin < low_margin)):
        return NEAR
    return NEAR if nearly_gated(pair) else OTHER


def _margin(pair: PreferencePair) -> float | None:
    judge = pair.meta.get("judge")
    value = judge.get("margin") if isinstance(judge, Mapping) else None
    return float(value) if is_finite(value) else None  # type: ignore[arg-type]  # just checked


def _ends(text: str) -> str:
    return text if len(text) <= 2 * END_CHARS else f"{text[:END_CHARS]}\n{text[-END_CHARS:]}"


def _is_mixed(pair: PreferencePair, texts: Sequence[str]) -> bool:
    """One of the texts is partly in another script than the prompt. Counting is slow, so it is left out where all is
    ASCII or nothing is Latin."""
    both = "\n".join([pair.prompt[-1].content, *texts])
    if both.isascii() or not _LATIN_WORD.search(both):
        return False
    return any(wrong_language(pair.prompt, text, "auto", LANGUAGE_SHARE) for text in texts)


def _similarity(first: str, second: str) -> float:
    """Different pairs of neighbouring characters that both have, over the mean number of them (Dice 1945)."""
    a, b = (set(pairwise(text)) for text in (first, second))
    return 2 * len(a & b) / max(len(a) + len(b), 1)


_SIDES = ("chosen", "rejected")
_LATIN_WORD = re.compile("[A-Za-z]{2}")

"""Suspicion: which pairs are more likely to be wrong than others, from what judges said and from the text alone.

It decides only how often a pair is asked. Where it means nothing, the estimate is as valid and a little wider.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import quantiles

from align.data.checks import is_finite
from align.data.gates import cut_off, refusal, side_text, wrong_language
from align.data.pair import PreferencePair

SPLIT, NEAR, OTHER = "split", "near", "other"
"""Names of the strata: judges disagreed; a gate nearly fired, or the margin is among the lowest tenth; the others."""

LENGTH_RATIO = 3.0
"""One side has at least so many times the characters of the other."""
SIMILARITY = 0.9
"""Share of words that the sides have in common, from which on they nearly say the same."""
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
    """A gate for pairs fires, or would with a stricter threshold."""
    sides = {"chosen": side_text(pair.chosen), "rejected": side_text(pair.rejected)}
    for name, text in sides.items():
        known = pair.meta.get(name)
        if cut_off(known if isinstance(known, Mapping) else {}):
            return True
        if wrong_language(pair.prompt, text, "auto", LANGUAGE_SHARE):
            return True
    short, long = sorted(map(len, sides.values()))
    if long >= LENGTH_RATIO * max(short, 1) or refusal(sides["chosen"]):
        return True
    return _similarity(sides["chosen"], sides["rejected"]) >= SIMILARITY


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


def _similarity(first: str, second: str) -> float:
    """Words that both have, by count, over the mean number of words; the order is not looked at."""
    a, b = Counter(_WORD.findall(first.casefold())), Counter(_WORD.findall(second.casefold()))
    return 2 * (a & b).total() / max(a.total() + b.total(), 1)


_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")
"""A Chinese or Japanese character, or a run of other letters and digits."""

"""Diversity: how many words an arm's answers have, and how little they repeat themselves."""

from __future__ import annotations

from collections.abc import Sequence

from align.errors import DataError
from align.text.scripts import words


def count_words(texts: Sequence[str]) -> int:
    """Words in all texts together; a Chinese or Japanese character is one word."""
    return sum(len(words(text)) for text in texts)


def distinct_n(texts: Sequence[str], n: int = 3, num_words: int | None = None) -> float:
    """Share of different word n-grams among all of them, 0 to 1 (distinct-n: Li et al. 2016, arXiv 1510.03055).

    Longer text repeats more, so compare arms over equally many words: the first `num_words` (None: all). An n-gram
    never spans two texts. NaN where no text has n words.
    """
    if num_words is not None and count_words(texts) < num_words:
        raise DataError(f"distinct_n: num_words must be at most {count_words(texts)}, all there are, not {num_words}")
    grams: list[tuple[str, ...]] = []
    left = num_words
    for text in texts:
        taken = words(text.casefold())[:left]
        grams.extend(zip(*(taken[start:] for start in range(n)), strict=False))
        left = None if left is None else left - len(taken)
    return len(set(grams)) / len(grams) if grams else float("nan")

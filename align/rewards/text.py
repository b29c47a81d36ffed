"""Text rewards: checks of form that need no model."""

from __future__ import annotations

import re
from typing import Any

from align.rewards.base import completion_text
from align.text.scripts import words

_SENTENCE_END = re.compile(r"[.!?]+(?=[\s\"'”’)\]]|$)|[。！？]+")
_NOT_AN_END = re.compile(r"\b(?:e\.g|i\.e|etc|vs|dr|mr|mrs|ms|st|no|a\.m|p\.m|u\.s)\.(?=\s+\S)", re.IGNORECASE)


def num_words(text: str) -> int:
    """Words of a text; a Chinese character counts as one."""
    return len(words(text))


def num_sentences(text: str) -> int:
    """Sentences of a text: ends of sentence, plus a rest without one, plus every further line."""
    count = 0
    for line in filter(None, (line.strip() for line in text.splitlines())):
        plain = _NOT_AN_END.sub("", line)
        ends = _SENTENCE_END.findall(plain)
        is_closed = bool(_SENTENCE_END.search(plain[-2:]))
        count += len(ends) + (not is_closed)
    return count


class ShortSentence:
    """1 for an answer of one whole sentence with at most `max_words` words, else 0."""

    def __init__(self, max_words: int = 25, min_words: int = 3) -> None:
        self.max_words = max_words
        self.min_words = min_words

    def __call__(self, prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:
        """One score a completion, 0.0 or 1.0."""
        return [self._score(completion_text(completion).strip()) for completion in completions]

    def _score(self, text: str) -> float:
        is_whole = bool(_SENTENCE_END.search(text[-2:]))
        is_short = self.min_words <= num_words(text) <= self.max_words
        return float(is_whole and is_short and num_sentences(text) == 1)


class Contains:
    """1 when at least `min_different` of the given words stand in the answer, else 0; case does not count."""

    def __init__(self, words: list[str], min_different: int = 1) -> None:
        self.patterns = [re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE) for word in words]
        self.min_different = min_different

    def __call__(self, prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:
        """One score a completion, 0.0 or 1.0."""
        texts = [completion_text(completion) for completion in completions]
        return [float(sum(bool(p.search(text)) for p in self.patterns) >= self.min_different) for text in texts]

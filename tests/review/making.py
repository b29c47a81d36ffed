"""Pairs whose better side a test knows, and a person who follows a rule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from align.data.files.rows import write_rows
from align.data.rows.pair import Message, PreferencePair
from align.review.dataset import ReviewSet
from align.review.labels import LabelFile
from align.review.session import Question, ReviewSession

GOOD, BAD = "The tide turns twice a day because of the moon.", "A ship in port is safe but that is all it is."


def pair(number: int, is_wrong: bool = False, **meta: Any) -> PreferencePair:
    """A pair of two sentences; the better one is `GOOD`."""
    sides = (BAD, GOOD) if is_wrong else (GOOD, BAD)
    chosen, rejected = ((Message("assistant", text),) for text in sides)
    return PreferencePair((Message("user", f"Question {number}: what about the sea?"),), chosen, rejected, meta)


def save(folder: Path, pairs: list[PreferencePair]) -> Path:
    """`pairs.jsonl` in a folder; the folder."""
    write_rows(folder / "pairs.jsonl", pairs)
    return folder


def knowing(question: Question) -> str:
    """The key of a person who always knows which side is better."""
    better = [side for side in question.sides if getattr(question.pair, side)[0].content.startswith(GOOD)]
    return "ab"[question.sides.index(better[0])]


def review_with(folder: Path, answer: Callable[[Question], str], num: int) -> ReviewSession:
    """Answer so many questions of a dataset and write `noise.json`; the session stays readable."""
    data = ReviewSet.read(folder)
    with LabelFile(data.labels_path) as labels:
        session = ReviewSession(data, labels)
        for _ in range(num):
            question = session.question()
            assert question is not None
            session.answer(question, answer(question), 1.0)
        session.write_noise()
    return session

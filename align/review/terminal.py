"""Terminal: `align review --terminal DATASET`: one pair after another, one key an answer."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from align.review.dataset import ReviewSet
from align.review.keys import Keys, open_keys
from align.review.labels import LabelFile
from align.review.session import Question, ReviewSession
from align.review.views import HELP, closing_lines, closing_table, question_screen

if TYPE_CHECKING:
    from rich.console import Console

RENEWED_EVERY = 5
"""Labels between two estimates on the screen: one after every label would tell the person what the last one said."""


def review(dataset: str | Path, console: Console | None = None, answers: TextIO | None = None) -> None:
    """Ask about pairs until the person quits; then write `noise.json`, also after Ctrl-C.

    Args:
        console: where to show; None is the standard output.
        answers: where keys come from; None is the standard input. Without a terminal: one key a line.

    Raises:
        ConfigError, DataError, StorageError: the pairs or the labels cannot be read.
        RefusedError: another review of the dataset is open.
    """
    from rich.console import Console

    console = console or Console(highlight=False)
    console.print(f"reading {dataset}", markup=False, soft_wrap=True)
    data = ReviewSet.read(dataset)
    with LabelFile(data.labels_path) as labels:
        session = ReviewSession(data, labels)
        _say_what_was_found(console, session, labels.num_cut_bytes)
        try:
            with open_keys(answers or sys.stdin) as keys:
                _ask(console, session, keys)
        finally:
            _close(console, session)


def _ask(console: Console, session: ReviewSession, keys: Keys) -> None:
    summary, note, shown, started = session.summary(), "", "", 0.0
    while (question := session.question()) is not None:
        if len(session.labels) % RENEWED_EVERY == 0:
            summary = session.summary()
        keys.forget()
        if console.is_terminal:
            console.clear()
        console.print(question_screen(question, session.num_pairs, summary, console.width))
        if note:
            console.print(note, style="bold", markup=False)
        if question.key != shown:
            shown, started = question.key, time.monotonic()
        while (key := keys.read()) == "?":
            console.print(HELP, markup=False)
        if key is None or key == "q":
            return
        note = _take(session, question, key, time.monotonic() - started)
    console.print("every pair was asked", markup=False)


def _take(session: ReviewSession, question: Question, key: str, seconds: float) -> str:
    """Do what a key says; what there is to tell about it."""
    if key in ("a", "b", "t", "s"):
        session.answer(question, key, seconds)
        return ""
    if key == "u":
        return "the last answer is taken back" if session.undo() else "there is no answer to take back"
    return f"{key!a} is not one of the keys a b t s u q ?; nothing was recorded"


def _say_what_was_found(console: Console, session: ReviewSession, num_cut_bytes: int) -> None:
    data = session.data
    facts = [f"{data.file.path}: {session.num_pairs:,} pairs, {len(session.labels):,} asked before"]
    if data.num_repeated:
        facts.append(f"{data.num_repeated:,} rows repeat another; each pair is asked once")
    if session.num_strangers:
        facts.append(f"{session.num_strangers:,} labels are of pairs that are not in this file; they do not count")
    if num_cut_bytes:
        facts.append(f"{data.labels_path}: a half-written last line of {num_cut_bytes} bytes was cut off")
    for fact in facts:
        console.print(fact, markup=False, soft_wrap=True)


def _close(console: Console, session: ReviewSession) -> None:
    """Write the estimate and show it."""
    noise = session.noise()
    console.print()
    if noise is None or not session.write_noise():
        console.print(f"nothing labelled; {session.data.noise_path} was not written", soft_wrap=True)
        return
    console.print(session.summary(), markup=False)
    console.print(closing_table(noise))
    for line in closing_lines(noise):
        console.print(line, markup=False)
    console.print(f"labels: {session.data.labels_path}\nestimate: {session.data.noise_path}", soft_wrap=True)

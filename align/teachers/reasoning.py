"""Reasoning: tells what a reasoning model thought from what it answered."""

from __future__ import annotations

OPEN, CLOSE = "<think>", "</think>"


def split_reasoning(text: str, is_open: bool = False) -> tuple[str, str]:
    """(answer, reasoning), both without white space around them.

    `is_open`: the prompt itself ended with `<think>`, as some chat templates do. Thoughts that were cut off leave an
    empty answer.
    """
    text = text.strip()
    if not is_open and text.startswith(OPEN):
        text, is_open = text.removeprefix(OPEN), True
    if not is_open:
        return text, ""
    reasoning, _, answer = text.partition(CLOSE)
    return answer.strip(), reasoning.strip()

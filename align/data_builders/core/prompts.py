"""Prompts of a dataset: read from a file, a list or topics, each once, and none on both sides of the split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from align.data.files.rows import read_prompts
from align.data.rows.message import contents
from align.data.rows.pair import Dropped, Message, Prompt
from align.errors import DataError
from align.text.normal import without_case_and_blanks
from align.text.shorten import shorten


@dataclass(frozen=True)
class PromptSet:
    """Prompts to train on and prompts kept away from training."""

    training: list[Prompt]
    heldout: list[Prompt]
    num_repeated: int
    """Training prompts that stood there more than once; each is asked once."""
    skipped: list[Dropped] = field(default_factory=list)
    """Lines of a corpus that make no prompt."""
    unread: list[Dropped] = field(default_factory=list)
    """What a teacher said of a corpus that is not so, and chunks that it could not read."""


def read_prompt_set(training: Any, heldout: Any | None) -> PromptSet:
    """Read both sources, as `unique_prompts` has them."""
    return unique_prompts(_read(training), _read(heldout) if heldout is not None else [])


def unique_prompts(read: list[Prompt], heldout: list[Prompt]) -> PromptSet:
    """Each prompt once, the first of equal ones.

    Raises:
        DataError: when a prompt stands on both sides.
    """
    unique = list({prompt.key: prompt for prompt in reversed(read)}.values())[::-1]
    kept_away = list({prompt.key: prompt for prompt in heldout}.values())
    leaked = on_both_sides(kept_away, unique)
    if leaked:
        raise DataError(
            f"heldout: {len(leaked)} prompts also stand in prompts, so the comparison would test what was trained; "
            f"the first is {shorten(leaked[0].messages[-1].content, 80)!r}. Remove them from one of the two."
        )
    return PromptSet(unique, kept_away, len(read) - len(unique))


def on_both_sides(these: Sequence[Prompt], those: Sequence[Prompt]) -> list[Prompt]:
    """Which of `these` also stand in `those`, but for case and white space."""
    known = {_plain(prompt) for prompt in those}
    return [prompt for prompt in these if _plain(prompt) in known]


def _read(source: Any) -> list[Prompt]:
    if isinstance(source, str):
        return read_prompts(source)
    if isinstance(source, dict):
        return [
            Prompt((Message("user", question.strip()),), {"topic": topic})
            for topic, questions in source.items()
            for question in questions
        ]
    return [Prompt((Message("user", question.strip()),)) for question in source]


def _plain(prompt: Prompt) -> str:
    """A prompt's text without case and white space, to find the same question written twice."""
    return without_case_and_blanks(contents(prompt.messages))

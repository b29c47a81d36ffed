"""Rendering: conversations as the text that a model reads, each distinct one written by the chat template once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from align.errors import DataError

Chat = list[dict[str, str]]
"""Messages in the form that chat templates take."""

CUT = "⟦", "⟧"
"""What stands around tokens that training would leave out, in messages."""
_NUM_CHARACTERS = 30


@dataclass(frozen=True, slots=True)
class RenderedRow:
    """The texts of a row."""

    prompt: str
    """As inference gives it to the model, up to where an answer begins."""
    wholes: tuple[str, ...]
    """For each answer, prompt and answer as training reads them; each begins with `prompt`."""


def render(
    prompts: Sequence[Chat], completions: Sequence[Sequence[Chat]], places: Sequence[str], tokenizer: Any
) -> list[RenderedRow]:
    """Write rows with the tokenizer's chat template.

    Args:
        completions: of each row, its answers.
        places: `file:line` of each row, for errors.

    Raises:
        DataError: the template writes a prompt differently once an answer follows: the model would be trained on a
            context that it never meets. TRL 1.16 warns once and goes on.
    """
    prompt_texts = _render_distinct(prompts, tokenizer, add_generation_prompt=True)
    wholes = iter(
        _render_distinct(
            [prompt + answer for prompt, answers in zip(prompts, completions, strict=True) for answer in answers],
            tokenizer,
        )
    )
    rows = []
    for place, prompt, answers in zip(places, prompt_texts, completions, strict=True):
        row = RenderedRow(prompt, tuple(next(wholes) for _ in answers))
        if changed := [whole for whole in row.wholes if not whole.startswith(prompt)]:
            raise DataError(f"{place}: {_changed_prompt(prompt, changed[0], tokenizer)}")
        rows.append(row)
    return rows


def shared_length(ids: Iterable[int], others: Iterable[int]) -> int:
    """How many leading tokens are the same."""
    length = 0
    for one, other in zip(ids, others, strict=False):
        if one != other:
            break
        length += 1
    return length


def _render_distinct(chats: Sequence[Chat], tokenizer: Any, **arguments: Any) -> list[str]:
    keys = [json.dumps(chat, ensure_ascii=False) for chat in chats]
    distinct = dict(zip(keys, chats, strict=True))
    texts = tokenizer.apply_chat_template(list(distinct.values()), tokenize=False, **arguments) if distinct else []
    found = dict(zip(distinct, texts, strict=True))
    return [found[key] for key in keys]


def _changed_prompt(prompt: str, whole: str, tokenizer: Any) -> str:
    """What is wrong, with the tokens that training would leave out between `CUT`."""
    prompt_ids, whole_ids = tokenizer([prompt, whole], add_special_tokens=False)["input_ids"]
    same = shared_length(prompt_ids, whole_ids)
    kept = tokenizer.decode(prompt_ids[:same])[-_NUM_CHARACTERS:]
    cut, instead = tokenizer.decode(prompt_ids[same:]), tokenizer.decode(whole_ids[same:])[:_NUM_CHARACTERS]
    return (
        f"the chat template ends the prompt alone with {f'{kept}{CUT[0]}{cut}{CUT[1]}'!r}, but before an answer it "
        f"writes {kept + instead!r}; training would leave out what stands in {CUT[0]}{CUT[1]}, and the model would be "
        "trained on a context that it never meets. Use a chat template that renders the prompt the same way in both "
        "cases."
    )

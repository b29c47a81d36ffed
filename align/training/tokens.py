"""Tokens: what the trainer will see of each row, checked before it is built.

TRL cuts a side that is too long, its end of sequence included, and drops some rows with a word in a progress bar only;
both teach the model something that nobody asked for. Here such rows are named, and refused or counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from align.errors import DataError

_BATCH = 1024
_NUM_NAMED = 5


@dataclass(frozen=True)
class TokenReport:
    """Token counts over the rows that are trained on."""

    num_rows: int
    num_too_long: int
    """Rows left out because a side would have been cut, or no completion would have fitted."""
    num_learned: int
    """Tokens of the first side (chosen, or the SFT completion) over all kept rows: what one epoch teaches; GRPO: 0."""
    longest: int
    """Tokens of the longest kept row: prompt and one side; GRPO: prompt."""


@dataclass(frozen=True)
class _Measured:
    longest: int
    num_learned: int


def check_tokens(
    rows: Sequence[dict[str, Any]],
    places: Sequence[str],
    sides: Sequence[str],
    tokenizer: Any,
    max_length: int | None,
    on_bad_rows: str,
) -> tuple[dict[int, int], TokenReport]:
    """Find the rows that fit.

    Args:
        rows: conversational rows, `{"prompt": [...], side: [...]}`.
        places: `file:line` of each row.
        sides: names of the columns that are trained on, the one to be learned first.
        max_length: tokens of prompt plus one side; None sets no limit.
        on_bad_rows: `fail` or `drop`.

    Returns:
        Index of each row to keep → tokens of its prompt and longer side, in order; and counts over them.

    Raises:
        DataError: over-long rows under `fail`, no row left, a side that does not end with the end of sequence, or a
            prompt that the chat template renders differently once an answer follows.
    """
    measured = [
        item
        for start in range(0, len(rows), _BATCH)
        for item in _measure(rows[start : start + _BATCH], places[start : start + _BATCH], sides, tokenizer)
    ]
    return _kept(
        measured,
        places,
        max_length,
        on_bad_rows,
        f"rows are longer than trainer.max_length={max_length} tokens",
        "Cutting them would take the end of one side and teach the model not to stop. Raise trainer.max_length",
    )


def check_prompts(
    prompts: Sequence[Any],
    places: Sequence[str],
    tokenizer: Any,
    context: int | None,
    max_completion_length: int,
    on_bad_rows: str,
    template_arguments: Mapping[str, Any],
) -> tuple[dict[int, int], TokenReport]:
    """Find the prompts that leave room for a completion in the model's context.

    Args:
        prompts: lists of messages.
        context: tokens that the model was made for; None sets no limit.
        template_arguments: what the chat template gets besides the messages.

    Returns:
        Index of each prompt to keep → its tokens, in order; and counts over them.

    Raises:
        DataError: over-long prompts under `fail`, or no prompt left.
    """
    texts = [
        tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False, **template_arguments)
        for prompt in prompts
    ]
    measured = [_Measured(len(ids), 0) for ids in _encode(tokenizer, texts)]
    return _kept(
        measured,
        places,
        None if context is None else context - max_completion_length,
        on_bad_rows,
        f"prompts leave no room for trainer.max_completion_length={max_completion_length} tokens in the model's "
        f"context of {context}",
        "Lower trainer.max_completion_length",
    )


def _kept(
    measured: Sequence[_Measured], places: Sequence[str], limit: int | None, on_bad_rows: str, fault: str, advice: str
) -> tuple[dict[int, int], TokenReport]:
    """Rows within the limit, and counts over them; the others are named, or dropped."""
    kept = [index for index, item in enumerate(measured) if limit is None or item.longest <= limit]
    too_long = sorted(set(range(len(measured))) - set(kept), key=lambda index: -measured[index].longest)
    if too_long and (on_bad_rows == "fail" or not kept):
        named = ", ".join(f"{places[index]} ({measured[index].longest})" for index in too_long[:_NUM_NAMED])
        raise DataError(
            f"{len(too_long)} of {len(measured)} {fault}: {named}{', …' if len(too_long) > _NUM_NAMED else ''}. "
            f"{advice}, or leave them out with data: {{on_bad_rows: drop}}."
        )
    report = TokenReport(
        num_rows=len(kept),
        num_too_long=len(too_long),
        num_learned=sum(measured[index].num_learned for index in kept),
        longest=max(measured[index].longest for index in kept),
    )
    return {index: measured[index].longest for index in kept}, report


def _measure(
    rows: Sequence[dict[str, Any]], places: Sequence[str], sides: Sequence[str], tokenizer: Any
) -> list[_Measured]:
    prompts = [tokenizer.apply_chat_template(r["prompt"], add_generation_prompt=True, tokenize=False) for r in rows]
    num_prompt_tokens = [len(ids) for ids in _encode(tokenizer, prompts)]
    lengths = []
    for side in sides:
        texts = [tokenizer.apply_chat_template(row["prompt"] + row[side], tokenize=False) for row in rows]
        ids = _encode(tokenizer, texts)
        for place, prompt, text, row_ids in zip(places, prompts, texts, ids, strict=True):
            _check_prefix(place, prompt, text)
            _check_end(place, side, row_ids, tokenizer)
        lengths.append([len(row_ids) for row_ids in ids])
    return [
        _Measured(max(row_lengths), row_lengths[0] - num_prompt)
        for num_prompt, *row_lengths in zip(num_prompt_tokens, *lengths, strict=True)
    ]


def _encode(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return ids


def _check_prefix(place: str, prompt: str, whole: str) -> None:
    """The prompt as inference sees it must be how the training text begins (a template may open a thought, say)."""
    if whole.startswith(prompt):
        return
    same = next((i for i, (a, b) in enumerate(zip(prompt, whole, strict=False)) if a != b), len(whole))
    start = max(0, same - 30)
    raise DataError(
        f"{place}: the chat template ends the prompt alone with {prompt[start:]!r}, but before an answer it writes "
        f"{whole[start : same + 30]!r}; the model would be trained on a context that it never meets. Use a chat "
        "template that renders the prompt the same way in both cases."
    )


def _check_end(place: str, side: str, ids: list[int], tokenizer: Any) -> None:
    """A template may write a newline after the end of sequence, never leave it out."""
    if tokenizer.eos_token_id in ids[-4:]:
        return
    raise DataError(
        f"{place}: {side} must end with the end-of-sequence token {tokenizer.eos_token!r}, ends with "
        f"{tokenizer.decode(ids[-4:])!r}; the model would not learn to stop. The tokenizer's eos_token and its chat "
        "template do not belong together."
    )

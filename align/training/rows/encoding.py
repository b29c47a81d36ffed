"""Encoding: rows as token ids, equal to TRL 1.16's, with the prompt once and every answer once.

What a row costs is small for three reasons: each distinct text is encoded once, texts go to the tokenizer in batches,
and of prompt and answer together only the end is encoded, from the prompt's last special token on. A fast tokenizer
takes such tokens out of the text before anything else, so nothing before one changes what stands after it.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from align.data.rows.pair import Demonstration, Group, PreferencePair, as_dicts
from align.training.rows.rendering import Chat, RenderedRow, render, shared_length

_NUM_ROWS = 1024
"""Rows whose texts are held at a time."""


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """A prompt and its answers. Loss is taken on every token of an answer and on none of the prompt."""

    prompt_ids: array[int]
    completions_ids: tuple[array[int], ...]
    """Chosen and rejected, the completion of a demonstration, or a group's candidates; each with its end token, and
    with what the chat template writes after that."""
    cut_ids: array[int]
    """End of the prompt that is left out since its tokens merge with the first ones of an answer (TRL's rule); empty
    in a sound row."""

    @property
    def num_tokens(self) -> int:
        """Tokens of the prompt and of all answers: what a pass over the row has to compute."""
        return len(self.prompt_ids) + sum(map(len, self.completions_ids))

    @property
    def longest(self) -> int:
        """Tokens of the prompt and the longest answer: what `max_length` limits."""
        return len(self.prompt_ids) + max(map(len, self.completions_ids), default=0)


def encode(
    rows: Sequence[PreferencePair | Demonstration | Group], tokenizer: Any, places: Sequence[str] | None = None
) -> list[EncodedRow]:
    """Encode rows.

    Args:
        places: `file:line` of each row, for errors; None: `row 1`, `row 2`, ….

    Raises:
        DataError: the chat template writes a prompt differently once an answer follows.
    """
    prompts = [as_dicts(row.prompt) for row in rows]
    answers = [[as_dicts(messages) for messages in _answers(row)] for row in rows]
    places = [f"row {number}" for number in range(1, len(rows) + 1)] if places is None else places
    return encode_chats(prompts, answers, places, tokenizer)


def encode_chats(
    prompts: Sequence[Chat], completions: Sequence[Sequence[Chat]], places: Sequence[str], tokenizer: Any
) -> list[EncodedRow]:
    """Encode rows given as messages: `completions` are the answers of each; otherwise as `encode`."""
    encoder = _Encoder(tokenizer)
    encoded = []
    for start in range(0, len(prompts), _NUM_ROWS):
        part = slice(start, start + _NUM_ROWS)
        encoded += encoder.rows(render(prompts[part], completions[part], places[part], tokenizer))
    return encoded


class _Encoder:
    """Encodes texts, and remembers the ids of each by its hash."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._separators = _separators(tokenizer)
        self._seen: dict[bytes, array[int]] = {}

    def rows(self, rendered: Sequence[RenderedRow]) -> list[EncodedRow]:
        prompts_ids = self._ids([row.prompt for row in rendered])
        splits = [self._split(row.prompt, ids) for row, ids in zip(rendered, prompts_ids, strict=True)]
        tails = [whole[split[1] :] for row, split in zip(rendered, splits, strict=True) for whole in row.wholes]
        tails_ids = iter(self._ids(tails))
        return [
            _join(ids, num_before, [next(tails_ids) for _ in row.wholes])
            for row, ids, (num_before, _) in zip(rendered, prompts_ids, splits, strict=True)
        ]

    def _ids(self, texts: Iterable[str]) -> list[array[int]]:
        by_key = [(hashlib.blake2b(text.encode(), digest_size=16).digest(), text) for text in texts]
        new = {key: text for key, text in by_key if key not in self._seen}
        if new:
            found = self._tokenizer(
                list(new.values()), add_special_tokens=False, return_attention_mask=False, verbose=False
            )["input_ids"]
            self._seen |= zip(new, (array("i", ids) for ids in found), strict=True)
        return [self._seen[key] for key, _ in by_key]

    def _split(self, prompt: str, ids: array[int]) -> tuple[int, int]:
        """Tokens and characters before the prompt's last separator; 0 and 0 where it has none."""
        for index in range(len(ids) - 1, -1, -1):
            if (separator := self._separators.get(ids[index])) is not None:
                return index, prompt.rindex(separator)
        return 0, 0


def _separators(tokenizer: Any) -> dict[int, str]:
    """Token id → text of the tokens that are taken out of a text before anything else is done to it.

    Not the unknown token, whose id also stands for other texts.
    """
    if not tokenizer.is_fast:
        return {}
    return {
        token_id: token.content
        for token_id, token in tokenizer.added_tokens_decoder.items()
        if not token.normalized and not token.single_word and token_id != tokenizer.unk_token_id
    }


def _join(prompt_ids: array[int], num_before: int, tails: Sequence[array[int]]) -> EncodedRow:
    """An answer begins where its ids leave those of the prompt, for all answers of a row at the same place."""
    prompt_tail = prompt_ids[num_before:]
    same = min((shared_length(prompt_tail, tail) for tail in tails), default=len(prompt_tail))
    cut = prompt_tail[same:]
    kept = prompt_ids[: num_before + same] if cut else prompt_ids
    return EncodedRow(kept, tuple(tail[same:] for tail in tails), cut)


def _answers(row: PreferencePair | Demonstration | Group) -> list[Any]:
    if isinstance(row, PreferencePair):
        return [row.chosen, row.rejected]
    if isinstance(row, Demonstration):
        return [row.completion]
    return [candidate.messages for candidate in row.candidates]

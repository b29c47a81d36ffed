"""Token pieces: token ids as text that a person can read and a terminal can show, one piece a token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

NEWLINE = "⏎"
_MAX_TOKENS = 8
"""Tokens that may make one character together; more are no character."""
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


@dataclass(frozen=True, slots=True)
class Piece:
    """A token, or several that hold only parts of a character."""

    text: str
    """Characters that cannot be seen are written as such: `⏎` before a line break, `\\t`, `\\x1b`, `\\u200b`."""
    num_tokens: int
    is_special: bool
    """Whether the tokenizer takes it out of the text as a whole: `<|im_end|>`, `<think>`."""

    def __str__(self) -> str:
        """The text, with a small number behind it where it is more than one token."""
        return self.text + (str(self.num_tokens).translate(_SUBSCRIPTS) if self.num_tokens > 1 else "")


def pieces(ids: Sequence[int], tokenizer: Any, after: int | None = None) -> Iterator[Piece]:
    """Cut token ids into readable pieces.

    Args:
        after: the token before the first one, since some tokenizers write a word's leading space only behind another;
            None at the start of a text.
    """
    special = set(tokenizer.added_tokens_decoder)
    waiting: list[int] = []
    for token_id in ids:
        waiting.append(token_id)
        text = _decode(waiting, tokenizer, after)
        if text.endswith("\ufffd") and len(waiting) < _MAX_TOKENS:
            continue
        yield Piece(_visible(text), len(waiting), token_id in special)
        after, waiting = token_id, []
    if waiting:
        yield Piece(_visible(_decode(waiting, tokenizer, after)), len(waiting), is_special=False)


def _decode(ids: Sequence[int], tokenizer: Any, after: int | None) -> str:
    before = [] if after is None else [after]
    whole = tokenizer.decode([*before, *ids], clean_up_tokenization_spaces=False)
    return str(whole[len(tokenizer.decode(before, clean_up_tokenization_spaces=False)) :])


def _visible(text: str) -> str:
    return "".join(map(_visible_character, text))


def _visible_character(character: str) -> str:
    if character == "\n":
        return f"{NEWLINE}\n"
    return character if character.isprintable() else ascii(character)[1:-1]

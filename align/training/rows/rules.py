"""Rules: why the tokens of a row would teach a model something that nobody asked for."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from align.data.lint.gates import Fault
from align.training.rows.encoding import EncodedRow
from align.training.rows.rendering import CUT

_MAX_BETWEEN = 3
"""White-space tokens that may stand between two end tokens for them to be one end written twice."""
_NUM_SHOWN = 8
"""Tokens that an error shows."""


class TokenRules:
    """What must hold of an encoded row.

    Args:
        end_ids: tokens at which generation stops, besides the tokenizer's own end of sequence (Gemma's chat turns end
            with `<end_of_turn>`, its tokenizer names `<eos>`).
        max_length: tokens of the prompt plus one answer; None sets no limit.
    """

    def __init__(self, tokenizer: Any, end_ids: Collection[int] = (), max_length: int | None = None) -> None:
        self._tokenizer = tokenizer
        own = () if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,)
        self._end_ids = tuple(dict.fromkeys([*own, *end_ids]))
        self.max_length = max_length
        self._blank: dict[int, bool] = {}

    def fault(self, row: EncodedRow, sides: Sequence[str]) -> Fault | None:
        """The first rule that the row breaks; `sides` names its answers.

        `merged_boundary`, `double_begin_of_sequence`, `no_end_of_sequence`, `double_end_of_sequence`, `same_tokens`
        or `too_long`.
        """
        return next(self._faults(row, sides), None)

    def _faults(self, row: EncodedRow, sides: Sequence[str]) -> Iterator[Fault]:
        if row.cut_ids:
            yield Fault("merged_boundary", self._merged(row))
        begin = self._tokenizer.bos_token_id
        if begin is not None and self._is_doubled(row.prompt_ids, begin):
            text = f"the prompt must have {self._tokenizer.bos_token!r} once where it begins, but has it twice"
            yield Fault("double_begin_of_sequence", f"{text}; remove it from the messages or from the chat template")
        for side, ids in zip(sides, row.completions_ids, strict=True):
            if not self._ends(ids):
                yield Fault("no_end_of_sequence", self._no_end(side, ids))
            for end in self._end_ids:
                if self._is_doubled(ids, end):
                    text = f"{side} must end with {self._tokenizer.decode([end])!r} once, but has it twice running"
                    yield Fault("double_end_of_sequence", f"{text}; remove it from the messages")
        if len(row.completions_ids) == 2 and row.completions_ids[0] == row.completions_ids[1]:
            text = f"{' and '.join(sides)} must differ in their tokens, but the chat template writes both the same"
            yield Fault("same_tokens", f"{text}; it leaves out a thought, say, or white space")
        if self.max_length is not None and row.longest > self.max_length:
            yield Fault("too_long", f"prompt and answer have {row.longest} tokens, more than {self.max_length}")

    def _ends(self, ids: array[int]) -> bool:
        """A template may write white space after the end of sequence, never leave it out."""
        for token_id in reversed(ids):
            if token_id in self._end_ids or not self._is_blank(token_id):
                return token_id in self._end_ids
        return False

    def _is_doubled(self, ids: array[int], token_id: int) -> bool:
        """Whether the token stands twice with nothing but white space between."""
        if ids.count(token_id) < 2:
            return False
        places = [index for index, one in enumerate(ids) if one == token_id]
        return any(
            second - first - 1 <= _MAX_BETWEEN and all(map(self._is_blank, ids[first + 1 : second]))
            for first, second in itertools.pairwise(places)
        )

    def _is_blank(self, token_id: int) -> bool:
        if token_id not in self._blank:
            self._blank[token_id] = not self._tokenizer.decode([token_id]).strip()
        return self._blank[token_id]

    def _no_end(self, side: str, ids: array[int]) -> str:
        wanted = " or ".join(repr(self._tokenizer.decode([one])) for one in self._end_ids)
        return (
            f"{side} must end with the end-of-sequence token {wanted}, ends with {self._tokenizer.decode(ids[-4:])!r}; "
            "the model would not learn to stop. The tokenizer's eos_token and its chat template do not belong together."
        )

    def _merged(self, row: EncodedRow) -> str:
        before = self._tokenizer.decode(row.prompt_ids[-_NUM_SHOWN:])
        marked = f"{before}{CUT[0]}{self._tokenizer.decode(row.cut_ids)}{CUT[1]}"
        return (
            f"the end of the prompt must stay as it is once an answer follows, but in {marked!r} what stands in "
            f"{CUT[0]}{CUT[1]} merges with the beginning of an answer; begin the answer without white space"
        )

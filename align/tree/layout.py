"""Prefix tree: where every token of packed groups stands, so that each prompt is encoded once for all its completions.

A row is `[prompt | completion | completion | … | prompt | completion | …]`, any number of groups and no padding. A
completion attends to its own prompt and to itself; its position ids go on where its prompt ends. The last position of a
prompt predicts the first token of each of its completions, so it is scored once for each.

One plan holds all that a route of attention needs; the routes are in `grouped`, `varlen` and `dense`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from align.errors import ConfigError, DataError


class TokenGroup(NamedTuple):
    """Token ids of one prompt and its completions; a pair has two."""

    prompt: Sequence[int]
    completions: Sequence[Sequence[int]]

    @property
    def num_tokens(self) -> int:
        return len(self.prompt) + sum(len(ids) for ids in self.completions)


@dataclass(frozen=True, eq=False)
class TreePlan:
    """The layout of one packed row of T tokens with M completion tokens; `plan_tree` makes it."""

    input_ids_1_T: torch.Tensor
    position_ids_1_T: torch.Tensor
    gather_M: torch.Tensor
    """Packed position whose hidden state predicts each label."""
    labels_M: torch.Tensor
    """The completion tokens, group by group and completion by completion."""
    candidate_M: torch.Tensor
    """Index of the completion that each label belongs to, from 0 to `num_candidates` - 1."""
    num_candidates: int
    lengths: tuple[tuple[int, tuple[int, ...]], ...]
    """Tokens of each group: (of its prompt, of each completion), in packed order."""
    query_ends: torch.Tensor
    """int32, 0 and then the end of each segment (a prompt or a completion) in the packed row."""
    key_ends: torch.Tensor
    """The same for keys, where a completion's segment is its prompt again and itself: [segments + 1]."""
    key_index: torch.Tensor
    """Packed position of each key, as long as the last of `key_ends`."""
    max_query: int
    """Tokens of the longest segment."""
    max_key: int
    """Keys of the longest segment."""

    @property
    def segments(self) -> list[int]:
        """Tokens of each prompt and completion in packed order; they sum to T."""
        return [length for prompt, completions in self.lengths for length in (prompt, *completions)]

    def sums(self, values_M: torch.Tensor) -> torch.Tensor:
        """Sum over the tokens of each completion: [num_candidates], in the values' type."""
        return summed(values_M, self.candidate_M, self.num_candidates)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> TreePlan:
        """The same plan on a device; accelerate calls it as it would a tensor's."""
        moved: dict[str, Any] = {
            field.name: value.to(device, non_blocking=non_blocking)
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), torch.Tensor)
        }
        return dataclasses.replace(self, **moved)


def plan_tree(groups: Sequence[TokenGroup]) -> TreePlan:
    """Lay groups out in one row, in the order given.

    Raises:
        DataError: a prompt or a completion has no token, or a group has no completion.
    """
    assert groups, "a row holds at least one group"
    for number, group in enumerate(groups):
        _check(number, group)
    lengths = tuple((len(group.prompt), tuple(map(len, group.completions))) for group in groups)
    spans = _spans(lengths)
    completions = [tokens for group in groups for tokens in group.completions]
    keys = [[*prompt, *own] for prompt, each in spans for own in (range(0), *each)]
    queries = [own for prompt, each in spans for own in (prompt, *each)]
    positions = [range(len(seen) - len(own), len(seen)) for own, seen in zip(queries, keys, strict=True)]
    return TreePlan(
        input_ids_1_T=_row([part for group in groups for part in (group.prompt, *group.completions)])[None],
        position_ids_1_T=_row(positions)[None],
        gather_M=_row([[prompt[-1], *own[:-1]] for prompt, each in spans for own in each]),
        labels_M=_row(completions),
        candidate_M=_row([[number] * len(tokens) for number, tokens in enumerate(completions)]),
        num_candidates=len(completions),
        lengths=lengths,
        query_ends=_ends(queries),
        key_ends=_ends(keys),
        key_index=_row(keys),
        max_query=max(map(len, queries)),
        max_key=max(map(len, keys)),
    )


def pack(num_tokens: Sequence[int], token_budget: int) -> list[list[int]]:
    """Distribute groups over rows of at most `token_budget` tokens, longest first into the first row with room.

    Args:
        num_tokens: of each group with its prompt counted once.

    Returns:
        For each row the indices of its groups in rising order; rows are ordered by their first group.

    Raises:
        ConfigError: one group alone is longer; its prompt would have to be encoded twice.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(num_tokens)), key=lambda index: (-num_tokens[index], index)):
        need = num_tokens[index]
        if need > token_budget:
            raise ConfigError(
                f"token budget: must hold the longest group, which is number {index + 1} with {need:,} tokens, but is "
                f"{token_budget:,}; raise it, or set data.max_length so that such a row is dropped."
            )
        row = next((row for row, free in enumerate(room) if need <= free), None)
        if row is None:
            rows.append([])
            room.append(token_budget)
            row = len(rows) - 1
        rows[row].append(index)
        room[row] -= need
    return sorted(sorted(row) for row in rows)


def summed(values_M: torch.Tensor, candidate_M: torch.Tensor, num_candidates: int) -> torch.Tensor:
    """Sum over the tokens of each completion: [num_candidates], in the values' type.

    Added up in float64: one by one in float32, 150 log-probs are off by what a loss may differ by.
    """
    zeros = values_M.new_zeros(num_candidates, dtype=torch.float64)
    return zeros.index_add(0, candidate_M, values_M.double()).to(values_M.dtype)


def _check(number: int, group: TokenGroup) -> None:
    if not group.prompt or not group.completions or not all(group.completions):
        found = f"{len(group.prompt)} and {[len(ids) for ids in group.completions]}"
        raise DataError(
            f"group {number + 1}: its prompt and each of at least one completion must have a token, but their lengths "
            f"are {found}; drop such rows before they are packed."
        )


def _spans(lengths: Sequence[tuple[int, Sequence[int]]]) -> list[tuple[range, list[range]]]:
    """Packed positions of each group: (of its prompt, of each completion)."""
    ends = itertools.accumulate((length for prompt, each in lengths for length in (prompt, *each)), initial=0)
    segments = itertools.starmap(range, itertools.pairwise(ends))
    return [(next(segments), [next(segments) for _ in each]) for _, each in lengths]


def _row(parts: Sequence[Sequence[int]]) -> torch.Tensor:
    return torch.tensor(list(itertools.chain.from_iterable(parts)), dtype=torch.long)


def _ends(parts: Sequence[Sequence[int]]) -> torch.Tensor:
    return torch.tensor([0, *itertools.accumulate(map(len, parts))], dtype=torch.int32)

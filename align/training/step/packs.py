"""Packs: preference rows as the tensors of one forward, laid out as a prefix tree or as padded rows.

Both layouts list the same completion tokens in the same order, so everything after the forward is one code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from align.errors import ConfigError
from align.training.step.choice import Forward
from align.tree.layout import TokenGroup, TreePlan, pack, plan_tree, summed

L = TypeVar("L")


@dataclass(frozen=True, eq=False)
class PaddedRows:
    """One row for each completion, its prompt before it, padded on the right to the longest: C rows of T tokens."""

    input_ids_C_T: torch.Tensor
    attention_mask_C_T: torch.Tensor
    is_completion_C_T: torch.Tensor
    candidate_M: torch.Tensor
    """Index of the completion that each of the M completion tokens belongs to."""
    num_candidates: int

    def sums(self, values_M: torch.Tensor) -> torch.Tensor:
        """Sum over the tokens of each completion: [C]."""
        return summed(values_M, self.candidate_M, self.num_candidates)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PaddedRows:
        """The same rows on a device."""
        return _moved(self, device, non_blocking)


@dataclass(frozen=True, eq=False)
class Pack:
    """What one forward computes: C completions of any number of prompts, and P pairs among them."""

    layout: TreePlan | PaddedRows
    num_tokens_C: torch.Tensor
    """Tokens of each completion."""
    better_P: torch.Tensor
    """Index of each pair's chosen completion."""
    worse_P: torch.Tensor
    scores_C: torch.Tensor | None
    """What a judge or a reward gave each completion, float64; None where the rows have none."""
    ref_logps_M: torch.Tensor | None
    """Log-probs of each completion token under the reference, float32; None where they are not known beforehand."""
    num_read_tokens: int
    """Tokens that plain rows would have, a prompt once for each side of each pair: TRL's `num_tokens`."""

    @property
    def num_pairs(self) -> int:
        return len(self.better_P)

    @property
    def num_chosen_tokens(self) -> int:
        """Over all pairs."""
        return int(self.num_tokens_C[self.better_P].sum())

    @property
    def num_tokens(self) -> int:
        """That the forward computes, padding included."""
        layout = self.layout
        return (layout.input_ids_C_T if isinstance(layout, PaddedRows) else layout.input_ids_1_T).numel()

    def emptied(self) -> Pack:
        """The same tokens without a pair: what a process computes so that all compute as often."""
        none = self.better_P.new_zeros(0)
        return dataclasses.replace(self, better_P=none, worse_P=none, num_read_tokens=0)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Pack:
        """The same pack on a device; accelerate calls it as it would a tensor's."""
        return _moved(self, device, non_blocking)


@dataclass(frozen=True)
class PackCollator:
    """Turns rows of a dataset (`preference_dataset`) into packs: `{"packs": [...], "group_B": index of each row}`."""

    forward: Forward
    pad_id: int
    tokens_per_forward: int | None = None
    """Tokens of a pack, padding included; None: all rows of a batch are one pack."""

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Collate rows, in their order but for the budget's sake."""
        parts = self._parts([_group(row) for row in rows])
        return {
            "packs": [self.pack([rows[index] for index in part]) for part in parts],
            "group_B": torch.arange(len(rows)),
        }

    def pack(self, rows: Sequence[Mapping[str, Any]]) -> Pack:
        """One pack of all rows."""
        groups = [_group(row) for row in rows]
        lengths = [len(ids) for group in groups for ids in group.completions]
        firsts = [0]
        for group in groups:
            firsts.append(firsts[-1] + len(group.completions))
        pairs = [(first + i, first + j) for first, row in zip(firsts, rows, strict=False) for i, j in row["pairs"]]
        prompts = [len(group.prompt) for group in groups for _ in group.completions]
        return Pack(
            layout=plan_tree(groups) if self.forward == "tree" else _padded(groups, self.pad_id),
            num_tokens_C=torch.tensor(lengths),
            better_P=torch.tensor([better for better, _ in pairs]),
            worse_P=torch.tensor([worse for _, worse in pairs]),
            scores_C=_scores(rows),
            ref_logps_M=_ref_logps(rows),
            num_read_tokens=sum(prompts[side] + lengths[side] for pair in pairs for side in pair),
        )

    def _parts(self, groups: Sequence[TokenGroup]) -> list[list[int]]:
        if self.tokens_per_forward is None:
            return [list(range(len(groups)))]
        if self.forward == "tree":
            return pack([group.num_tokens for group in groups], self.tokens_per_forward)
        return _padded_parts(groups, self.tokens_per_forward)


def _group(row: Mapping[str, Any]) -> TokenGroup:
    return TokenGroup(row["prompt_ids"], row["completions_ids"])


def _scores(rows: Sequence[Mapping[str, Any]]) -> torch.Tensor | None:
    if any(row.get("scores") is None for row in rows):
        return None
    return torch.tensor([score for row in rows for score in row["scores"]], dtype=torch.float64)


def _ref_logps(rows: Sequence[Mapping[str, Any]]) -> torch.Tensor | None:
    if any(row.get("ref_logps") is None for row in rows):
        return None
    return torch.tensor([logp for row in rows for logps in row["ref_logps"] for logp in logps], dtype=torch.float32)


def _padded(groups: Sequence[TokenGroup], pad_id: int) -> PaddedRows:
    rows = [(group.prompt, ids) for group in groups for ids in group.completions]
    longest = max(len(prompt) + len(ids) for prompt, ids in rows)
    input_ids_C_T = torch.full((len(rows), longest), pad_id)
    is_completion_C_T = torch.zeros(len(rows), longest, dtype=torch.bool)
    attention_mask_C_T = torch.zeros(len(rows), longest, dtype=torch.long)
    for index, (prompt, ids) in enumerate(rows):
        end = len(prompt) + len(ids)
        input_ids_C_T[index, :end] = torch.tensor([*prompt, *ids])
        attention_mask_C_T[index, :end] = 1
        is_completion_C_T[index, len(prompt) : end] = True
    candidates = torch.arange(len(rows))[:, None].expand(-1, longest)
    return PaddedRows(
        input_ids_C_T, attention_mask_C_T, is_completion_C_T, candidates[is_completion_C_T].clone(), len(rows)
    )


def _padded_parts(groups: Sequence[TokenGroup], budget: int) -> list[list[int]]:
    """Longest first, so that rows of one forward are about as long."""
    longest = [len(group.prompt) + max(map(len, group.completions)) for group in groups]
    parts: list[list[int]] = []
    num_rows = width = 0
    for index in sorted(range(len(groups)), key=lambda index: -longest[index]):
        more = len(groups[index].completions)
        if more * longest[index] > budget:
            raise ConfigError(
                f"tokens_per_forward: must hold the {more} padded rows of one prompt, which take "
                f"{more * longest[index]:,} tokens, but is {budget:,}; raise it, or lower trainer.max_length"
            )
        if not parts or (num_rows + more) * width > budget:
            parts.append([])
            num_rows, width = 0, longest[index]
        parts[-1].append(index)
        num_rows += more
    return [sorted(part) for part in parts]


def _moved(layout: L, device: torch.device | str, non_blocking: bool) -> L:
    moved: dict[str, Any] = {
        field.name: value.to(device, non_blocking=non_blocking)
        for field in dataclasses.fields(layout)  # type: ignore[arg-type]  # both are dataclasses
        if hasattr(value := getattr(layout, field.name), "to")
    }
    return dataclasses.replace(layout, **moved)  # type: ignore[type-var]

"""Prompt heads: what many prompts begin with (a rubric, worked examples) is encoded once, and each adds its own rest.

A judge or a reviser asks every question behind the same hundreds of tokens. A prompt that begins as another one did
leaves the keys and values of that beginning here; those that come after it start behind them. The last few are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

    from align.models.decoding.cache import KeyValues

SHORTEST = 128
"""Tokens; encoding less once spares less than the smaller batches cost."""
BLOCK = 16
"""Tokens; heads end at multiples of it, so that prompts which share a few more by chance are still encoded together."""
NUM_HEADS = 4
NUM_RECENT = 64
"""Prompts that a new one is compared with."""

Ids: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Head:
    """The beginning of a prompt, with its keys and values in each layer."""

    ids: Ids
    layers: list[tuple[Tensor, Tensor]]
    """Keys and values, each [1, heads, tokens, head size]."""

    def start(self, num_tokens: int, num_rows: int) -> KeyValues:
        """So many rows that all hold the first tokens of this head."""
        from align.models.decoding.cache import KeyValues

        started = KeyValues()
        for index, pair in enumerate(self.layers):
            keys, values = (states[:, :, :num_tokens].expand(num_rows, -1, -1, -1) for states in pair)
            started.update(keys, values, index)
        return started


class PromptHeads:
    """The last heads that were used, and the prompts that came last."""

    def __init__(self) -> None:
        self._heads: deque[Head] = deque(maxlen=NUM_HEADS)
        self._recent: deque[Ids] = deque(maxlen=NUM_RECENT)

    def longest(self, prompt: Ids) -> tuple[Head | None, int]:
        """The head that covers most of a prompt, and how many tokens; (None, 0) where that is too little."""
        head = max(self._heads, key=lambda each: num_shared(prompt, each.ids), default=None)
        covered = 0 if head is None else num_shared(prompt, head.ids)
        if head is None or covered < SHORTEST:
            return None, 0
        self._heads.remove(head)
        self._heads.append(head)
        return head, covered

    def worth_keeping(self, prompt: Ids, others: Iterable[Ids]) -> int:
        """Tokens that it shares with one of `others` or with one that came before; 0 where those are too few."""
        shared = max((num_shared(prompt, other) for other in [*self._recent, *others]), default=0)
        self._recent.append(prompt)
        return shared if shared >= SHORTEST else 0

    def keep(self, ids: Ids, cache: KeyValues) -> None:
        """Keep the beginning of the only row of `cache`."""
        layers = [
            (layer.keys[:, :, : len(ids)].clone(), layer.values[:, :, : len(ids)].clone()) for layer in cache.layers
        ]
        self._heads.append(Head(ids, layers))


def num_shared(prompt: Sequence[int], other: Sequence[int]) -> int:
    """Tokens that both begin with, in whole blocks. Two of `prompt` are left: one to encode, one for the first step."""
    most = min(len(prompt) - 2, len(other))
    end = 0
    while end + BLOCK <= most and prompt[end : end + BLOCK] == other[end : end + BLOCK]:
        end += BLOCK
    return end

"""Decode batch: the tensors of the answers that are being written at one time, one token for each of them a step.

Rows come and go between steps. Their keys and values end together in the last column (padded on the left), so a row
that joins needs no shifting, and a row's mask and position follow from its length alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from align.teachers._draw import draw_tokens
from align.teachers.base import Completion

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DynamicCache, PreTrainedModel

PREFILL_TOKENS = 1024
"""Prompt tokens, padding included, that are encoded in one forward while the other rows wait."""


@dataclass(eq=False)
class Row:
    """One answer being written."""

    prompt_ids: list[int]
    """At least two."""
    temperature: float
    """0 means greedy."""
    top_p: float
    max_tokens: int
    seed: int
    future: Future[Completion]
    """Where the answer is waited for."""
    thinks_at_once: bool = False
    """Whether the prompt has opened the model's thoughts already."""
    tokens: list[int] = field(default_factory=list)
    """What was drawn so far, the end token included."""
    has_ended: bool = False
    """Whether the model ended the answer itself."""
    uniforms: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.uniforms = random.Random(self.seed)

    @property
    def is_finished(self) -> bool:
        return self.has_ended or len(self.tokens) >= self.max_tokens

    @property
    def num_cached(self) -> int:
        """Tokens whose keys and values are in the batch: all but the last one, which the next step takes in."""
        return len(self.prompt_ids) + len(self.tokens) - 1

    @property
    def last_token(self) -> int:
        return self.tokens[-1] if self.tokens else self.prompt_ids[-1]


class DecodeBatch:
    """Rows, and the keys and values of all but the last token of each."""

    def __init__(self, model: PreTrainedModel, end_ids: frozenset[int]) -> None:
        self.rows: list[Row] = []
        self._model = model
        self._end_ids = end_ids
        self._cache: DynamicCache | None = None

    def admit(self, rows: Sequence[Row]) -> None:
        """Encode the prompts of new rows, equal ones once, and let the rows join."""
        by_prompt: dict[tuple[int, ...], list[Row]] = {}
        for row in rows:
            by_prompt.setdefault(tuple(row.prompt_ids), []).append(row)
        parts = [] if self._cache is None else [self._cache]
        for prompts in _prefill_groups(list(by_prompt)):
            part = self._prefill([prompt[:-1] for prompt in prompts])
            sources = [index for index, prompt in enumerate(prompts) for _ in by_prompt[prompt]]
            if len(sources) > len(prompts):
                _select(part, sources)
            parts.append(part)
            self.rows += [row for prompt in prompts for row in by_prompt[prompt]]
        self._cache = _join(parts)

    def step(self) -> None:
        """Draw one token for every row."""
        import torch

        assert self._cache is not None, "a step needs rows"
        last_ids_B = torch.tensor([row.last_token for row in self.rows])
        lengths_B = torch.tensor([row.num_cached for row in self.rows])
        columns_T = torch.arange(int(lengths_B.max()) + 1)
        mask_B_T = columns_T >= columns_T[-1] - lengths_B[:, None]
        logits_B_V = self._forward(last_ids_B[:, None], mask_B_T, lengths_B[:, None], self._cache)
        tokens = draw_tokens(
            logits_B_V,
            temperature=[row.temperature for row in self.rows],
            top_p=[row.top_p for row in self.rows],
            uniforms=[row.uniforms.random() for row in self.rows],
        )
        for row, token in zip(self.rows, tokens, strict=True):
            row.tokens.append(token)
            row.has_ended = token in self._end_ids

    def remove(self, leaving: Sequence[Row]) -> None:
        """Take out rows, and the columns that only they needed."""
        if not leaving:
            return
        kept = [index for index, row in enumerate(self.rows) if row not in leaving]
        self.rows = [self.rows[index] for index in kept]
        if not kept:
            self._cache = None
        elif self._cache is not None:
            _select(self._cache, kept, width=max(row.num_cached for row in self.rows))

    def _prefill(self, prompts: Sequence[Sequence[int]]) -> DynamicCache:
        """Encode prompts (without their last token) that see nothing of each other."""
        import torch
        from transformers import DynamicCache

        cache = DynamicCache()
        width = max(len(ids) for ids in prompts)
        ids_B_T = torch.tensor([[0] * (width - len(ids)) + list(ids) for ids in prompts])
        mask_B_T = torch.arange(width) >= width - torch.tensor([len(ids) for ids in prompts])[:, None]
        self._forward(ids_B_T, mask_B_T, (mask_B_T.cumsum(1) - 1).clamp(min=0), cache)
        return cache

    def _forward(self, ids_B_T: Tensor, mask_B_S: Tensor, positions_B_T: Tensor, cache: DynamicCache) -> Tensor:
        """Logits of the last column, [B, V] float32. The new columns' keys and values are added to `cache`."""
        import torch

        device = self._model.device
        with torch.inference_mode():
            output = self._model(
                input_ids=ids_B_T.to(device),
                attention_mask=mask_B_S.to(device=device, dtype=torch.long),
                position_ids=positions_B_T.to(device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        logits_B_V: Tensor = output.logits[:, -1].float()
        return logits_B_V


def _prefill_groups(prompts: list[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
    """Prompts of about equal length together, at most `PREFILL_TOKENS` with their padding."""
    group: list[tuple[int, ...]] = []
    for prompt in sorted(prompts, key=len):
        if group and (len(group) + 1) * len(prompt) > PREFILL_TOKENS:
            yield group
            group = []
        group.append(prompt)
    if group:
        yield group


def _select(cache: DynamicCache, rows: Sequence[int], width: int | None = None) -> None:
    """Keep these rows, in this order, and their last `width` columns (None: all)."""
    import torch

    for layer in cache.layers:
        index_B = torch.tensor(rows, device=layer.keys.device)
        first = 0 if width is None else layer.keys.shape[2] - width
        layer.keys = layer.keys[:, :, first:].index_select(0, index_B)
        layer.values = layer.values[:, :, first:].index_select(0, index_B)


def _join(parts: Sequence[DynamicCache]) -> DynamicCache:
    """Rows of all parts under each other, their last columns in line."""
    import torch
    from torch.nn.functional import pad
    from transformers import DynamicCache

    if len(parts) == 1:
        return parts[0]
    width = max(part.get_seq_length() for part in parts)
    joined = DynamicCache()
    for index in range(len(parts[0].layers)):
        layers = [part.layers[index] for part in parts]
        missing = [(0, 0, width - layer.keys.shape[2], 0) for layer in layers]
        keys = torch.cat([pad(layer.keys, columns) for layer, columns in zip(layers, missing, strict=True)])
        values = torch.cat([pad(layer.values, columns) for layer, columns in zip(layers, missing, strict=True)])
        joined.update(keys, values, index)
    return joined

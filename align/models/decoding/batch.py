"""Decode batch: the tensors of the answers that are being written at one time, one token for each of them a step.

Rows come and go between steps. Their keys and values end together in the last column (padded on the left), so a row
that joins needs no shifting, and a row's mask and position follow from its length alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from align.models.decoding.draw import draw_tokens
from align.models.decoding.prompt_heads import Head, Ids, PromptHeads

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from align.models.decoding.cache import KeyValues

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
    future: Future[Any]
    """Where what a voice makes of the finished row is waited for."""
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
        self._cache: KeyValues | None = None
        self._heads = PromptHeads()

    def admit(self, rows: Sequence[Row]) -> None:
        """Encode the prompts of new rows, equal ones and equal beginnings once, and let the rows join."""
        by_prompt: dict[Ids, list[Row]] = {}
        for row in rows:
            by_prompt.setdefault(tuple(row.prompt_ids), []).append(row)
        parts = []
        for prompts, part in self._encoded(sorted(by_prompt)):
            sources = [index for index, prompt in enumerate(prompts) for _ in by_prompt[prompt]]
            if len(sources) > len(prompts):
                part.repeat(sources)
            parts.append(part)
            self.rows += [row for prompt in prompts for row in by_prompt[prompt]]
        if self._cache is None:
            self._cache = parts.pop(0)
        if parts:
            self._cache.join(parts)

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
        gone = [index for index, row in enumerate(self.rows) if row in leaving]
        left = len(self.rows) - len(gone)
        if left == 0:
            self.rows, self._cache = [], None
        elif gone and self._cache is not None:
            last = [index for index in range(left, len(self.rows)) if index not in gone]
            moved = list(zip(gone, last, strict=False))
            for to, source in moved:
                self.rows[to] = self.rows[source]
            self.rows = self.rows[:left]
            self._cache.leave(moved, left, width=max(row.num_cached for row in self.rows))

    def _encoded(self, prompts: Sequence[Ids]) -> Iterator[tuple[list[Ids], KeyValues]]:
        """Groups of prompts and their caches. One that begins as others do goes alone, and leaves its head to them."""
        by_head: dict[tuple[Head | None, int], list[Ids]] = {}
        for index, prompt in enumerate(prompts):
            head, covered = self._heads.longest(prompt)
            shared = self._heads.worth_keeping(prompt, prompts[index + 1 : index + 2])
            if shared > covered:
                cache = self._prefill([prompt], head, covered)
                self._heads.keep(prompt[:shared], cache)
                yield [prompt], cache
            else:
                by_head.setdefault((head, covered), []).append(prompt)
        for (head, covered), each in by_head.items():
            for group in _prefill_groups(each, covered):
                yield group, self._prefill(group, head, covered)

    def _prefill(self, prompts: Sequence[Ids], head: Head | None, covered: int) -> KeyValues:
        """Encode prompts, all but their last token; the first `covered` of each come from `head`."""
        import torch

        from align.models.decoding.cache import KeyValues

        cache = head.start(covered, len(prompts)) if head else KeyValues()
        rests = [prompt[covered:-1] for prompt in prompts]
        width = max(len(ids) for ids in rests)
        missing_B = width - torch.tensor([len(ids) for ids in rests])
        ids_B_T = torch.tensor([[0] * (width - len(ids)) + list(ids) for ids in rests])
        mask_B_T = torch.arange(width) >= missing_B[:, None]
        positions_B_T = covered + (mask_B_T.cumsum(1) - 1).clamp(min=0)
        mask_B_S = torch.cat([mask_B_T.new_ones(len(prompts), covered), mask_B_T], dim=1)
        self._forward(ids_B_T, mask_B_S, positions_B_T, cache)
        if covered and missing_B.any():
            cache.close_gaps(covered, missing_B)
        return cache

    def _forward(self, ids_B_T: Tensor, mask_B_S: Tensor, positions_B_T: Tensor, cache: KeyValues) -> Tensor:
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


def _prefill_groups(prompts: Sequence[Ids], covered: int) -> Iterator[list[Ids]]:
    """Prompts of about equal length together; behind the first `covered`, at most `PREFILL_TOKENS` with padding."""
    group: list[Ids] = []
    for prompt in sorted(prompts, key=len):
        if group and (len(group) + 1) * (len(prompt) - covered) > PREFILL_TOKENS:
            yield group
            group = []
        group.append(prompt)
    if group:
        yield group

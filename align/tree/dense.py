"""Dense attention: one mask of [T, T] over the packed row, the oracle that the other routes are tested against.

It does the work of every masked block too: for tests and `align verify`, not for training.
"""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention

from align.tree.layout import TreePlan


def dense_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, plan: TreePlan, scaling: float | None
) -> torch.Tensor:
    """Attention of one packed row: [1, heads, T, size] from keys and values of [1, key heads, T, size]."""
    sees = dense_mask(plan).to(query.device)
    is_grouped = query.size(1) != key.size(1)
    return scaled_dot_product_attention(query, key, value, attn_mask=sees, scale=scaling, enable_gqa=is_grouped)


def dense_mask(plan: TreePlan) -> torch.Tensor:
    """Which key each query sees: bool [T, T]. Made from the lengths alone, not from what the other routes read."""
    num_tokens = sum(plan.segments)
    sees = torch.zeros(num_tokens, num_tokens, dtype=torch.bool)
    end = 0
    for prompt, completions in plan.lengths:
        prompt_keys = slice(end, end + prompt)
        sees[prompt_keys, prompt_keys] = torch.ones(prompt, prompt, dtype=torch.bool).tril()
        end += prompt
        for length in completions:
            own = slice(end, end + length)
            sees[own, prompt_keys] = True
            sees[own, own] = torch.ones(length, length, dtype=torch.bool).tril()
            end += length
    return sees

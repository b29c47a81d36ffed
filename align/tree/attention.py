"""Tree attention: an attention of transformers that reads a plan where it is given one, and is sdpa where it is not.

The plan travels through `forward`'s keyword arguments to each attention layer: there is no state beside the call, so
activation checkpointing, which calls a layer again during backward, finds the same plan. Its masks are sdpa's: one that
returned nothing made left-padded logits of the same model wrong by 7 nats.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from align.tree.grouped import grouped_attention
from align.tree.layout import TreePlan
from align.tree.varlen import varlen_attention, why_not_varlen

NAME = "align_tree"
"""What the attention is registered as, and what `config._attn_implementation` reads; it is never saved."""


class Route(Protocol):
    """One way to compute attention over a packed row; all give the same numbers."""

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, plan: TreePlan, scaling: float | None
    ) -> torch.Tensor:
        """[1, heads, T, size] from queries of that shape and keys and values of [1, key heads, T, size]."""


def tree_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    tree_plan: TreePlan | None = None,
    tree_route: Route | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls in each attention layer; without a plan, sdpa with the same arguments."""
    if tree_plan is None or tree_route is None:
        output: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return output
    altered = {name: kwargs.get(name) for name in ("sliding_window", "softcap", "position_bias", "s_aux")}
    assert dropout == 0.0 and not any(each is not None for each in altered.values()), f"unfit model: {altered}"
    output_1_H_T_D = tree_route(query, key, value, tree_plan, scaling)
    return output_1_H_T_D.transpose(1, 2).contiguous(), None


def use_tree_attention(model: PreTrainedModel) -> None:
    """Let a model that runs sdpa read plans; everything without a plan is computed as before, bit for bit."""
    found = model.config._attn_implementation
    assert found in ("sdpa", NAME), f"`supports` must have refused attention {found!r}"
    model.set_attn_implementation(NAME)


def best_route(device: torch.device, dtype: torch.dtype, head_size: int) -> Route:
    """The fastest route for a model: varlen where its kernel runs, grouped elsewhere.

    Args:
        dtype: of the arithmetic, under autocast that of autocast.
    """
    return grouped_attention if why_not_varlen(device, dtype, head_size) else varlen_attention


AttentionInterface.register(NAME, tree_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)

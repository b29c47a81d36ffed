"""Varlen attention: the route for CUDA, all segments of a packed row in one call of torch's flash attention.

Queries are the packed row; keys are gathered so that each completion's segment is its prompt and itself, and a query
sees all keys but those after it, counted from the segment's end. Everything but the kernel is the same on a CPU, where
`emulated_varlen` takes the kernel's arguments.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from align.tree.layout import TreePlan

CAUSAL = (-1, 0)
"""The kernel's window: everything to the left and nothing to the right, aligned at the end of queries and keys."""


def varlen_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    plan: TreePlan,
    scaling: float | None,
    kernel: Callable[..., torch.Tensor] | None = None,
) -> torch.Tensor:
    """Attention of one packed row: [1, heads, T, size] from keys and values of [1, key heads, T, size].

    Args:
        kernel: what takes the arguments of `torch.nn.attention.varlen.varlen_attn`; None is that.
    """
    kernel = kernel or torch_kernel()
    assert kernel is not None, "`why_not_varlen` must be asked first"
    # Under autocast only what came straight out of a matrix product is in half precision, and the kernel casts nothing.
    query_T, key_T, value_T = (part[0].transpose(0, 1).to(value.dtype) for part in (query, key, value))
    output_T = kernel(
        query_T.contiguous(),
        key_T.index_select(0, plan.key_index),
        value_T.index_select(0, plan.key_index),
        plan.query_ends,
        plan.key_ends,
        plan.max_query,
        plan.max_key,
        scale=scaling,
        window_size=CAUSAL,
        enable_gqa=query.size(1) != key.size(1),
    )
    return output_T.transpose(0, 1)[None]


def emulated_varlen(
    query_T: torch.Tensor,
    key_T: torch.Tensor,
    value_T: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
) -> torch.Tensor:
    """What torch's kernel computes, [T, heads, size], segment by segment on any device and in any type."""
    assert window_size == CAUSAL, f"only {CAUSAL} is emulated, not {window_size}"
    outputs = []
    query_lengths, key_lengths = cu_seq_q.diff().tolist(), cu_seq_k.diff().tolist()
    assert (max(query_lengths), max(key_lengths)) == (max_q, max_k)
    assert (sum(query_lengths), sum(key_lengths)) == (len(query_T), len(key_T)) and len(key_T) == len(value_T)
    queries = torch.split(query_T, query_lengths)
    keys, values = torch.split(key_T, key_lengths), torch.split(value_T, key_lengths)
    for query, key, value in zip(queries, keys, values, strict=True):
        sees = torch.ones(len(query), len(key), dtype=torch.bool, device=query.device).tril(len(key) - len(query))
        query, key, value = (part.transpose(0, 1)[None] for part in (query, key, value))
        output = scaled_dot_product_attention(query, key, value, sees, scale=scale, enable_gqa=enable_gqa)[0]
        outputs.append(output.transpose(0, 1))
    return torch.cat(outputs)


emulated_varlen_attention = functools.partial(varlen_attention, kernel=emulated_varlen)
"""The CUDA route with the kernel emulated."""


@functools.cache
def torch_kernel() -> Callable[..., torch.Tensor] | None:
    """torch's own kernel; None where torch has none that takes these arguments (it came in 2.10 with fewer)."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    wanted = {"scale", "window_size", "enable_gqa"}
    kernel: Callable[..., Any] = varlen_attn
    return kernel if wanted <= set(inspect.signature(kernel).parameters) else None


def why_not_varlen(device: torch.device, dtype: torch.dtype, head_size: int) -> str | None:
    """Why torch's kernel cannot run a model, or None.

    Args:
        dtype: of the arithmetic, under autocast that of autocast.
    """
    if device.type != "cuda":
        return f"varlen attention runs on CUDA, not on {device.type}"
    if torch_kernel() is None:
        return f"torch {torch.__version__} has no varlen attention with scale, window and grouped heads"
    if dtype not in (torch.bfloat16, torch.float16):
        return f"varlen attention takes bfloat16 or float16, not {dtype}"
    if head_size % 8 or head_size > 256:
        return f"varlen attention takes a head size up to 256 that is a multiple of 8, not {head_size}"
    return None

"""Varlen attention: the route for CUDA, all segments of a packed row in one call of torch's flash attention.

Queries are the packed row; keys are gathered so that each completion's segment is its prompt and itself, and a query
sees all keys but those after it, counted from the segment's end. Everything but the kernel is the same on a CPU, where
`emulated_varlen` takes the kernel's arguments.
"""

from __future__ import annotations

import functools
import inspect
import math
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
        kernel: what takes the arguments of `emulated_varlen`; None is torch's.
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
    """torch's own kernel, with the arguments of `emulated_varlen`; None where torch has none that can (before 2.10)."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return fitted(varlen_attn)


def fitted(kernel: Callable[..., Any]) -> Callable[..., torch.Tensor] | None:
    """A kernel with the signature of any torch from 2.10 on, as one that takes the arguments of `emulated_varlen`.

    Flash attention has computed grouped heads all along: 2.12 and later must be told, 2.10 and 2.11 need not be, and
    have no word for it. 2.10 knows no window and no scale but 1 / sqrt(head size). None: an unknown signature.
    """
    known = set(inspect.signature(kernel).parameters)
    if {"scale", "window_size", "enable_gqa"} <= known:
        return kernel
    if {"scale", "window_size"} <= known:
        return functools.partial(_untold_of_groups, kernel)
    return functools.partial(_causal_alone, kernel) if "is_causal" in known else None


def kernel_or_reason(device: torch.device, dtype: torch.dtype, head_size: int) -> str:
    """The kernel that a model runs, with torch's version and the GPU's architecture, or why none does."""
    reason = why_not_varlen(device, dtype, head_size)
    if reason is not None:
        return f"no kernel: {reason}"
    major, minor = torch.cuda.get_device_capability(device)
    return f"torch.nn.attention.varlen.varlen_attn, torch {torch.__version__}, sm_{major}{minor}"


def why_not_varlen(device: torch.device, dtype: torch.dtype, head_size: int) -> str | None:
    """Why torch's kernel cannot run a model, or None.

    Args:
        dtype: of the arithmetic, under autocast that of autocast.
    """
    if device.type != "cuda":
        return f"varlen attention runs on CUDA, not on {device.type}"
    if torch_kernel() is None:
        return f"torch {torch.__version__} has no varlen attention that is known here; it came in 2.10"
    if dtype not in (torch.bfloat16, torch.float16):
        return f"varlen attention takes bfloat16 or float16, not {dtype}"
    if head_size % 8 or head_size > 256:
        return f"varlen attention takes a head size up to 256 that is a multiple of 8, not {head_size}"
    return None


def _untold_of_groups(
    kernel: Callable[..., Any], *arguments: Any, scale: float | None, window_size: tuple[int, int], enable_gqa: bool
) -> torch.Tensor:
    """torch 2.11."""
    return torch.as_tensor(kernel(*arguments, scale=scale, window_size=window_size))


def _causal_alone(
    kernel: Callable[..., Any],
    query_T: torch.Tensor,
    *arguments: Any,
    scale: float | None,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> torch.Tensor:
    """torch 2.10, whose `is_causal` is aligned at the end as the window is."""
    assert window_size == CAUSAL, f"torch 2.10 has no window {window_size}"
    factor = 1.0 if scale is None else scale * math.sqrt(query_T.size(-1))
    return torch.as_tensor(kernel(query_T * factor, *arguments, is_causal=True))

"""Operations: what a training step really computed and kept, by looking at what torch dispatched.

Operations are those of matrix products and attention, two for each multiply-add; norms, activations and softmax are not
counted. A causal attention counts the pairs of query and key that are seen, one with a mask all of them, as the kernels
do it to within a block.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from align.tree.varlen import torch_kernel

aten = torch.ops.aten
_ATTENTION = [
    getattr(aten, f"_scaled_dot_product_{kind}_attention{end}")
    for kind, end in (
        *((kind, end) for kind in ("flash", "efficient", "cudnn") for end in ("", "_backward")),
        ("flash", "_for_cpu"),
        ("flash", "_for_cpu_backward"),
    )
]
"""Attention of torch as it is dispatched; with grouped heads on some devices it is two batched products instead."""


def counter() -> FlopCounterMode:
    """A context; ask it for `get_total_flops()` afterwards.

    torch's own leaves out a CPU's attention and `addmm_`, and fails on the `addmm` with a type of its own that TRL's LM
    head calls on CUDA.
    """
    operators = list(_ATTENTION)
    if torch_kernel() is not None:
        operators += [torch.ops.torch_attn._varlen_attn, torch.ops.torch_attn._varlen_attn_backward]
    formulas = {each: _attention(each) for each in operators}
    return FlopCounterMode(display=False, custom_mapping={**formulas, aten.addmm: _addmm, aten.addmm_: _addmm})


def _addmm(total: Any, left: Any, right: Any, *_: Any, **__: Any) -> int:
    """Of shapes, as FlopCounterMode passes them."""
    return 2 * int(left[0] * left[1] * right[1])


def _attention(operator: Any) -> Callable[..., int]:
    overload = operator.default
    num_products = 5 if "backward" in str(operator) else 2
    """Backward computes the scores again, and the gradients of values, probabilities, queries and keys."""

    def count(*args: Any, out_val: Any = None, **kwargs: Any) -> int:
        names = [argument.name for argument in overload._schema.arguments]
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        query = given["query"]
        return 2 * num_products * query.size(-1) * _pairs(given)

    count._get_raw = True  # type: ignore[attr-defined]  # FlopCounterMode passes tensors, not shapes
    return count


def _pairs(given: dict[str, Any]) -> int:
    """Pairs of query and key over all heads and rows."""
    query, key = given["query"], given["key"]
    if "cu_seq_q" in given:
        lengths = zip(given["cu_seq_q"].diff().tolist(), given["cu_seq_k"].diff().tolist(), strict=True)
        window = given.get("window_size") or [-1, -1]
        is_causal = given.get("is_causal", False) or list(window) == [-1, 0]
        return sum(_seen(queries, keys, is_causal) for queries, keys in lengths) * query.size(1)
    rows = math.prod(query.shape[:-2])
    return rows * _seen(query.size(-2), key.size(-2), given.get("is_causal", False))


def _seen(num_queries: int, num_keys: int, is_causal: bool) -> int:
    return num_queries * num_keys - (num_queries * (num_queries - 1) // 2 if is_causal else 0)


class HeadPositions(TorchDispatchMode):
    """Counts the positions that a model's LM head is computed for, each time it is."""

    def __init__(self, head: torch.nn.Linear) -> None:
        super().__init__()
        self.num_positions = 0
        self._weight = head.weight

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._overloadpacket in (aten.mm, aten.addmm):
            rows, columns = args[-2:]
            is_head = columns.untyped_storage().data_ptr() == self._weight.untyped_storage().data_ptr()
            # the first columns of the logits, and not the gradient of the hidden states
            if is_head and columns.storage_offset() == 0 and columns.stride(0) == 1:
                self.num_positions += rows.size(0)
        return func(*args, **(kwargs or {}))


class SavedBytes(torch.autograd.graph.saved_tensors_hooks):
    """Counts the bytes that autograd keeps for the backward pass, each storage once and the weights not.

    A storage is known by its address: of several micro-batches, what lies where something lay before is not added.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._weights = {each.untyped_storage().data_ptr() for each in model.parameters()}
        self._sizes: dict[int, int] = {}
        super().__init__(self._pack, lambda tensor: tensor)

    @property
    def num_bytes(self) -> int:
        return sum(self._sizes.values())

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._weights:
            self._sizes[storage.data_ptr()] = max(storage.nbytes(), self._sizes.get(storage.data_ptr(), 0))
        return tensor


def peak_bytes(step: Callable[[], Any], device: torch.device) -> int:
    """The most memory that torch held during a step, above what it held before, its gradients among it.

    On a CPU it is what torch's allocator gave out, from the profiler's record; what a matrix library takes for itself
    is not in it. On CUDA it is the allocator's own maximum.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()  # or `max_memory_reserved` would tell of what came before
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with torch.autograd.profiler.profile(profile_memory=True) as profiler:
        step()
    assert profiler.kineto_results is not None
    events = [each for each in profiler.kineto_results.events() if each.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda each: each.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most

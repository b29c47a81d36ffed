"""Varlen attention: the emulated kernel takes what torch's takes, and torch's is used only where it runs."""

from __future__ import annotations

import inspect

import pytest
import torch

from align.tree.attention import best_route
from align.tree.grouped import grouped_attention
from align.tree.layout import plan_tree
from align.tree.varlen import (
    emulated_varlen,
    emulated_varlen_attention,
    fitted,
    kernel_or_reason,
    torch_kernel,
    varlen_attention,
    why_not_varlen,
)
from tests.training.trees import group

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_the_emulation_takes_the_arguments_of_torchs_kernel():
    theirs = inspect.signature(torch_kernel()).parameters
    ours = inspect.signature(emulated_varlen).parameters
    assert list(ours)[3:7] == list(theirs)[3:7] == ["cu_seq_q", "cu_seq_k", "max_q", "max_k"]
    assert {"scale", "window_size", "enable_gqa"} <= set(ours) & set(theirs)
    for name in ("scale", "window_size", "enable_gqa"):
        assert (ours[name].kind, ours[name].default) == (theirs[name].kind, theirs[name].default)


def of_torch_2_10(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, is_causal=False, return_aux=None):
    assert is_causal
    groups = query.size(1) != key.size(1)
    return emulated_varlen(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, window_size=(-1, 0), enable_gqa=groups)


def of_torch_2_11(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, return_aux=None, scale=None, window_size=(-1, -1)
):
    groups = query.size(1) != key.size(1)
    return emulated_varlen(
        query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, scale=scale, window_size=window_size, enable_gqa=groups
    )


@pytest.mark.parametrize("scaling", [None, 0.25, 0.3])
@pytest.mark.parametrize("kernel", [of_torch_2_10, of_torch_2_11, emulated_varlen])
def test_kernels_of_older_torches_are_given_what_they_take(kernel, scaling):
    plan = plan_tree([group(7, 3, 4), group(1, 2, 2)])
    parts = [torch.randn(1, heads, plan.input_ids_1_T.size(1), 8, dtype=torch.float64) for heads in (4, 2, 2)]
    found = varlen_attention(*parts, plan, scaling, fitted(kernel))
    torch.testing.assert_close(found, grouped_attention(*parts, plan, scaling))


def test_a_kernel_of_an_unknown_signature_is_none():
    assert fitted(lambda query, key, value: query) is None


def test_where_no_kernel_runs_its_place_names_the_reason():
    assert kernel_or_reason(CPU, torch.bfloat16, 64) == "no kernel: varlen attention runs on CUDA, not on cpu"


def test_the_kernel_is_called_in_the_type_of_values():
    plan = plan_tree([group(7, 3, 4), group(1, 2, 2)])
    query, key, value = (torch.randn(1, heads, plan.input_ids_1_T.size(1), 8) for heads in (4, 2, 2))
    assert emulated_varlen_attention(query, key, value.bfloat16(), plan, None).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("device", "dtype", "head_size", "reason"),
    [
        (CPU, torch.bfloat16, 64, "runs on CUDA, not on cpu"),
        (CUDA, torch.float32, 64, "takes bfloat16 or float16, not torch.float32"),
        (CUDA, torch.bfloat16, 60, "a multiple of 8, not 60"),
        (CUDA, torch.bfloat16, 264, "up to 256 that is a multiple of 8, not 264"),
    ],
)
def test_where_the_kernel_does_not_run_the_reason_is_given_and_grouped_attention_runs(device, dtype, head_size, reason):
    assert reason in why_not_varlen(device, dtype, head_size)
    assert best_route(device, dtype, head_size) is grouped_attention


def test_half_precision_on_cuda_runs_the_kernel():
    assert why_not_varlen(CUDA, torch.bfloat16, 64) is None
    assert best_route(CUDA, torch.bfloat16, 64) is not grouped_attention

"""Varlen attention: the emulated kernel takes what torch's takes, and torch's is used only where it runs."""

from __future__ import annotations

import inspect

import pytest
import torch

from align.tree.attention import best_route
from align.tree.grouped import grouped_attention
from align.tree.layout import plan_tree
from align.tree.varlen import emulated_varlen, emulated_varlen_attention, torch_kernel, why_not_varlen
from tests.training.trees import group

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_the_emulation_takes_the_arguments_of_torchs_kernel():
    theirs = inspect.signature(torch_kernel()).parameters
    ours = inspect.signature(emulated_varlen).parameters
    assert list(ours)[3:7] == list(theirs)[3:7] == ["cu_seq_q", "cu_seq_k", "max_q", "max_k"]
    assert {"scale", "window_size", "enable_gqa"} <= set(ours) & set(theirs)
    for name in ("scale", "window_size", "enable_gqa"):
        assert (ours[name].kind, ours[name].default) == (theirs[name].kind, theirs[name].default)


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

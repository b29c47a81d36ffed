"""Routes: grouped and varlen attention are dense attention, for any lengths."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from align.tree.dense import dense_attention
from align.tree.grouped import grouped_attention
from align.tree.layout import TokenGroup, plan_tree
from align.tree.varlen import emulated_varlen_attention

LENGTHS = st.tuples(st.integers(1, 140), st.lists(st.integers(1, 300), min_size=1, max_size=4))


@pytest.mark.parametrize("route", [grouped_attention, emulated_varlen_attention], ids=["grouped", "varlen"])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    lengths=st.lists(LENGTHS, min_size=1, max_size=3),
    heads=st.sampled_from([(4, 4), (4, 2), (3, 1)]),
    scaling=st.sampled_from([None, 0.3]),
)
def test_outputs_and_gradients_are_those_of_a_dense_mask(route, lengths, heads, scaling):
    plan = plan_tree(
        [TokenGroup([0] * prompt, [[0] * each for each in completions]) for prompt, completions in lengths]
    )
    generator = torch.Generator().manual_seed(0)
    num_tokens = plan.input_ids_1_T.size(1)
    shapes = [(1, number, num_tokens, 4) for number in (heads[0], heads[1], heads[1], heads[0])]
    *inputs, upstream = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    found, expected = [], []
    for attention, into in ((route, found), (dense_attention, expected)):
        leaves = [each.clone().requires_grad_() for each in inputs]
        output = attention(*leaves, plan, scaling)
        output.backward(upstream)
        into += [output.detach(), *(leaf.grad for leaf in leaves)]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)

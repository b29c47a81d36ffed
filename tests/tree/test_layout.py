"""Prefix tree: the layout of packed groups, token by token."""

from __future__ import annotations

import pytest
import torch

from align.errors import ConfigError, DataError
from align.tree.dense import dense_mask
from align.tree.layout import TokenGroup, pack, plan_tree


@pytest.fixture
def plan():
    return plan_tree([TokenGroup([10, 11], [[20, 21, 22], [30]]), TokenGroup([12], [[40, 41]])])


def test_each_prompt_stands_once_and_nothing_is_padded(plan):
    assert plan.input_ids_1_T.tolist() == [[10, 11, 20, 21, 22, 30, 12, 40, 41]]
    assert plan.segments == [2, 3, 1, 1, 2]


def test_a_completions_positions_go_on_where_its_own_prompt_ends(plan):
    assert plan.position_ids_1_T.tolist() == [[0, 1, 2, 3, 4, 2, 0, 1, 2]]


def test_the_last_prompt_position_is_scored_once_for_each_completion(plan):
    assert plan.gather_M.tolist() == [1, 2, 3, 1, 6, 7]
    assert plan.labels_M.tolist() == [20, 21, 22, 30, 40, 41]
    assert plan.candidate_M.tolist() == [0, 0, 0, 1, 2, 2]


def test_values_are_summed_for_each_completion(plan):
    assert plan.sums(torch.arange(6.0)).tolist() == [3.0, 3.0, 9.0]


def test_a_completions_keys_are_its_prompt_and_itself(plan):
    assert plan.query_ends.tolist() == [0, 2, 5, 6, 7, 9]
    assert plan.key_ends.tolist() == [0, 2, 7, 10, 11, 14]
    assert plan.key_index.tolist() == [0, 1, 0, 1, 2, 3, 4, 0, 1, 5, 6, 6, 7, 8]
    assert (plan.max_query, plan.max_key) == (3, 5)


def test_no_token_sees_a_sibling_another_group_or_what_comes_later(plan):
    assert dense_mask(plan).int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 0, 1, 1, 1],
    ]


def test_a_plan_moves_with_all_its_tensors(plan):
    moved = plan.to("meta", non_blocking=True)
    tensors = [value for value in vars(moved).values() if isinstance(value, torch.Tensor)]
    assert len(tensors) == 8 and all(tensor.is_meta for tensor in tensors)
    assert moved.lengths == plan.lengths


@pytest.mark.parametrize("group", [TokenGroup([], [[1]]), TokenGroup([1], []), TokenGroup([1], [[2], []])])
def test_a_group_without_tokens_to_score_or_to_score_from_is_refused(group):
    with pytest.raises(DataError, match="group 2: its prompt and each of at least one completion must have a token"):
        plan_tree([TokenGroup([1], [[2]]), group])


def test_rows_stay_within_the_budget_and_hold_every_group_once():
    sizes = [5, 90, 40, 60, 10, 30, 100, 1]
    rows = pack(sizes, token_budget=100)
    assert rows == [[0, 5, 7], [1, 4], [2, 3], [6]]
    assert sorted(index for row in rows for index in row) == list(range(len(sizes)))


def test_a_group_longer_than_the_budget_is_refused():
    with pytest.raises(ConfigError, match="longest group, which is number 2 with 101 tokens, but is 100"):
        pack([3, 101], token_budget=100)


def test_a_groups_prompt_counts_once():
    assert TokenGroup([1, 2], [[3], [4, 5]]).num_tokens == 5

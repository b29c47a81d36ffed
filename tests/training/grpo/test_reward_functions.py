"""Reward functions: what a reward is called with, and what stops a run instead of scoring 0."""

from __future__ import annotations

import asyncio
import functools
import math

import pytest
from trl.trainer.utils import get_callable_name, is_async_callable

from align.errors import ConfigError, DataError
from align.training.grpo.reward_functions import check_signature, distinct_names, packed_columns, reward_function

ROWS = [{"answer": 4, "share": 4.0, "meta": {"a": {}}}, {"answer": 5, "other": [1, "x"]}]


def length(prompts, completions, **columns):
    return [float(len(completion)) for completion in completions]


async def async_length(prompts, completions, **columns):
    await asyncio.sleep(0)
    return length(prompts, completions)


class AsyncReward:
    async def __call__(self, prompts, completions, **columns):
        return await async_length(prompts, completions)


def called(reward, rows=ROWS, **others):
    function = reward_function(reward, "mine")
    columns = packed_columns(rows)
    return function(prompts=["p"] * len(rows), completions=["ab"] * len(rows), columns=columns, **others)


def test_columns_reach_the_reward_as_they_stand_in_the_file():
    def reward(prompts, completions, **columns):
        seen.update(columns)
        return [0.0, None]

    seen = {}
    assert called(reward, trainer_state="state", row=[7, 8]) == [0.0, None]
    assert seen.pop("trainer_state") == "state"
    assert seen == {"answer": [4, 5], "share": [4.0, None], "meta": [{"a": {}}, None], "other": [None, [1, "x"]]}
    assert [type(one) for one in (*seen["answer"], seen["share"][0])] == [int, int, float]


@pytest.mark.parametrize("reward", [async_length, AsyncReward(), functools.partial(async_length, extra=1)])
def test_an_async_reward_stays_async_for_trl(reward):
    function = reward_function(reward, "mine")
    assert is_async_callable(function) and get_callable_name(function) == "mine"
    assert asyncio.run(called(reward)) == [2.0, 2.0]


def test_a_plain_reward_stays_plain():
    function = reward_function(length, "mine")
    assert not is_async_callable(function) and get_callable_name(function) == "mine"


def test_a_reward_that_raises_stops_the_run_by_name_and_place():
    def broken(prompts, completions, **columns):
        return [1 / 0]

    with pytest.raises(ConfigError, match=r"reward mine: raised ZeroDivisionError: .*test_reward_functions.py:\d+\)"):
        called(broken)


def test_an_async_reward_that_raises_stops_the_run_by_name():
    async def broken(prompts, completions, **columns):
        raise KeyError("x")

    with pytest.raises(ConfigError, match="reward mine: raised KeyError"):
        asyncio.run(called(broken))


def test_an_error_of_ours_keeps_its_exit_code_and_gets_the_name():
    def broken(prompts, completions, **columns):
        raise DataError("no gold")

    with pytest.raises(DataError, match="reward mine: no gold"):
        called(broken)


@pytest.mark.parametrize("scores", [[1.0], None, 1.0, "12", [math.nan, 1.0], [math.inf, 1.0], ["1", "2"]])
def test_scores_that_are_not_a_finite_number_or_none_for_each_completion_are_refused(scores):
    with pytest.raises(ConfigError, match="reward mine: "):
        called(lambda prompts, completions, **columns: scores)


def test_true_and_array_scores_are_numbers():
    import numpy as np

    assert called(lambda prompts, completions, **columns: [True, False]) == [1.0, 0.0]
    assert called(lambda prompts, completions, **columns: np.array([0.5, 1])) == [0.5, 1.0]


def test_a_reward_that_cannot_take_its_columns_is_refused_before_anything_is_loaded():
    def narrow(prompts, completions, answer):
        return []

    with pytest.raises(ConfigError, match=r"rewards: narrow: .*write narrow\(prompts, completions, \*\*columns\)"):
        check_signature(narrow, "narrow", ["answer"])
    check_signature(length, "length", ["answer"])


def test_names_are_made_distinct():
    assert distinct_names(["Contains", "x", "Contains", "Contains"]) == ["Contains", "x", "Contains_2", "Contains_3"]

"""Reasoning: the answer is found, scored by its own task, and nothing that a model writes hangs the run."""

from __future__ import annotations

import asyncio

import pytest

from align.errors import DataError
from align.rewards.reasoning import ReasoningGym, answer_in


def entry(task="chain_sum", question="2 + 3 =", answer="5", metadata=None, **parameters):
    return {"task": task, "parameters": parameters, "question": question, "answer": answer, "metadata": metadata or {}}


COUNTDOWN = entry(
    task="countdown", question="Make 10 of 4 and 6.", answer="4 + 6", metadata={"numbers": [4, 6], "target": 10}
)


@pytest.fixture(scope="module")
def reward():
    made = ReasoningGym()
    yield made
    made.checker.close()


def scores(reward, rows, *texts):
    return asyncio.run(reward(["?"] * len(texts), list(texts), entry=[rows] * len(texts)))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("So <answer> 5 </answer>.", "5"),
        ("<answer>4</answer> no, <answer>5</answer>", "5"),
        ("<answer>4 no, <answer>5</answer>", "5"),
        ("<answer>a\nb</answer>", "a\nb"),
        ("5", None),
        ("<answer> </answer>", None),
        ("<answer>5", None),
    ],
)
def test_the_last_closed_tag_holds_the_answer(text, answer):
    assert answer_in(text, "answer") == answer


def test_without_a_tag_the_whole_completion_is_the_answer():
    assert answer_in(" 5 \n", None) == "5"
    assert answer_in("  ", None) is None


def test_a_right_answer_scores_1_and_none_scores_0(reward):
    assert scores(reward, entry(), "<answer>5</answer>", "5", "<answer>6</answer>") == [1.0, 0.0, 0.0]


def test_a_task_is_scored_by_its_own_rules(reward):
    right, same, wrong = "<answer>4 + 6</answer>", "<answer>6 + 4</answer>", "<answer>4 * 6</answer>"
    found = scores(reward, COUNTDOWN, right, same, wrong)
    assert found[:2] == [1.0, 1.0] and found[2] < 1.0


def test_an_answer_that_hangs_its_scorer_is_stopped_and_the_next_is_scored(capfd):
    reward = ReasoningGym(timeout_s=2.0)
    scores(reward, COUNTDOWN, "4 + 6")
    found = scores(reward, COUNTDOWN, "<answer>4**6**4**6**4**6 + 4 + 6</answer>", "<answer>4 + 6</answer>")
    assert found[1] == 1.0 and found[0] != 1.0
    reward.checker.close()


@pytest.mark.parametrize("value", [None, "5", {"answer": "5"}])
def test_what_is_no_entry_is_an_error(reward, value):
    with pytest.raises(DataError, match="must be an entry"):
        scores(reward, value, "5")


def test_an_unknown_task_is_an_error(reward):
    with pytest.raises(DataError, match="must be one of reasoning-gym's"):
        scores(reward, entry(task="chainsum"), "5")

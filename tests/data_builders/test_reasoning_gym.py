"""Reasoning gym: the split does not leak, rows score from the file as they did when made, and settings are checked."""

from __future__ import annotations

import asyncio

import pytest

from align.data.files.rows import read_rows
from align.data.rows.task import Task
from align.data_builders.reasoning_gym import ReasoningGymBuilder, ReasoningGymSettings
from align.errors import ConfigError
from align.rewards.reasoning import ReasoningGym
from align.settings.base import load_settings

SUMS = "tasks={chain_sum: {min_terms: 2, max_terms: 2, min_digits: 1, max_digits: 1}}"
SMALL = ["num_tasks=60", "num_heldout=30"]


def builder(*words: str) -> ReasoningGymBuilder:
    return ReasoningGymBuilder(load_settings(ReasoningGymSettings, None, ["output_dir=unused", *SMALL, SUMS, *words]))


def questions(tasks: list[Task]) -> set[str]:
    return {task.prompt[-1].content for task in tasks}


def test_no_question_is_asked_twice_or_stands_on_both_sides():
    tasks, heldout = builder("num_tasks=110", "num_heldout=50").tasks()
    assert (len(questions(tasks)), len(questions(heldout))) == (110, 50) == (len(tasks), len(heldout))
    assert not questions(tasks) & questions(heldout)


def test_the_same_seed_gives_the_same_tasks_and_another_seed_others():
    assert builder().tasks() == builder("seed=0").tasks() != builder("seed=1").tasks()


def test_several_tasks_share_both_sides_equally():
    tasks, heldout = builder("tasks.letter_counting={}", "num_tasks=7", "num_heldout=4").tasks()
    names = [[task.columns["entry"]["task"] for task in side] for side in (tasks, heldout)]
    assert [(side.count("chain_sum"), side.count("letter_counting")) for side in names] == [(4, 3), (2, 2)]


def test_the_files_are_tasks_and_their_own_answers_score_1_when_read_back(tmp_path):
    words = [*SMALL, SUMS, "tasks.countdown={}", f"output_dir={tmp_path}", "instruction={system: Add.}"]
    assert ReasoningGymBuilder.main(words) == 0
    rows = read_rows(tmp_path / "tasks.jsonl", Task).rows
    assert len(rows) == 60 and rows[0].prompt[0].content == "Add."
    reward = ReasoningGym(tag=None)
    answers = [row.columns["answer"] for row in rows]
    entries = [row.columns["entry"] for row in rows]
    assert asyncio.run(reward(["?"] * 60, answers, entry=entries)) == [1.0] * 60
    reward.checker.close()
    card = (tmp_path / "README.md").read_text()
    assert "| seed | `0` |" in card and "to score countdown, reasoning-gym evaluates the model's answer" in card


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["tasks.chainsum={}"], "tasks.chainsum is not a task of reasoning-gym; did you mean chain_sum?"),
        (["tasks.chain_sum.min_term=1"], "min_term is not a parameter of it; did you mean min_terms?"),
        (["tasks.chain_sum.seed=1"], "tasks.chain_sum.seed is set by the builder; give seed beside tasks"),
        (["tasks.chain_sum.size=9"], "tasks.chain_sum.size is set by the builder"),
        (["tasks={}"], "tasks must"),
    ],
)
def test_a_mistake_in_the_settings_is_named_before_anything_is_made(words, text):
    with pytest.raises(ConfigError, match=text):
        builder(*words)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["tasks.chain_sum.min_terms=5"], "does not take"),
        (["num_tasks=1000"], "1030 different questions are wanted, but 20600 draws with .* brought"),
        (["num_heldout=1", "tasks.countdown={}"], "must be at least 2, one of each task"),
        (["tasks={rearc: {}}"], "cannot be scored from a file: .* scores 0.05 instead of 1"),
        (["tasks={graph_color: {}}"], "cannot be scored from a file: .* 'None' scores None"),
    ],
)
def test_tasks_that_cannot_be_made_or_scored_are_refused(words, text):
    with pytest.raises(ConfigError, match=text):
        builder(*words).tasks()

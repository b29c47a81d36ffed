"""Sums: the split does not leak, and the files are what GRPO reads."""

from __future__ import annotations

import pytest

from align.data.files.rows import read_rows
from align.data.rows.task import Task
from align.data_builders.sums import SumsBuilder, SumsSettings
from align.errors import ConfigError
from align.settings.base import load_settings

SMALL = ["smallest=0", "largest=20", "num_tasks=150", "num_heldout=60"]


def builder(*words: str) -> SumsBuilder:
    return SumsBuilder(load_settings(SumsSettings, None, ["output_dir=unused", *SMALL, *words]))


def numbers(task: Task) -> list[int]:
    return [int(part) for part in task.prompt[-1].content.rstrip(" =").split(" + ")]


def test_no_pair_of_numbers_stands_on_both_sides_in_either_order():
    tasks, heldout = builder().tasks()
    sides = [{tuple(sorted(numbers(task))) for task in side} for side in (tasks, heldout)]
    assert not sides[0] & sides[1]
    assert (len(sides[0]), len(sides[1])) == (150, 60)


def test_the_answer_is_the_sum():
    assert all(sum(numbers(task)) == task.columns["answer"] for side in builder().tasks() for task in side)


def test_the_same_seed_gives_the_same_tasks_and_another_seed_others():
    assert builder().tasks() == builder("seed=0").tasks() != builder("seed=1").tasks()


def test_more_tasks_than_pairs_of_numbers_are_refused():
    with pytest.raises(ConfigError, match="are 1060, but there are 231 pairs of numbers"):
        builder("num_tasks=1000").tasks()


def test_the_files_are_tasks_and_the_card_names_every_setting(tmp_path):
    SumsBuilder.main([*SMALL, f"output_dir={tmp_path}", "instruction={system: Add.}"])
    rows = read_rows(tmp_path / "tasks.jsonl", Task).rows
    assert len(rows) == 150 and rows[0].prompt[0].content == "Add."
    assert len(read_rows(tmp_path / "heldout.jsonl", Task).rows) == 60
    assert "| seed | `0` |" in (tmp_path / "README.md").read_text()

"""Verified: right against wrong answers of one model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from align.data_builders.verified import VerifiedBuilder, VerifiedSettings
from align.errors import DataError
from align.settings.base import load_settings
from align.teachers.base import Completion
from align.teachers.scripted import ScriptedTeacher

RIGHT = "right={use: align.rewards.numeric_answer.NumericAnswer, at_least: 1}"


def tasks(path: Path, *sums: tuple[int, int]) -> str:
    rows = [{"prompt": [{"role": "user", "content": f"{a} + {b} ="}], "answer": a + b} for a, b in sums]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return str(path)


def build(tmp_path: Path, script, *words: str, sums=((1, 2), (3, 4), (5, 6))):
    base = [f"prompts={tasks(tmp_path / 'tasks.jsonl', *sums)}", f"output_dir={tmp_path / 'out'}"]
    settings = load_settings(VerifiedSettings, None, [*base, "student.model=unused", RIGHT, *words])
    return VerifiedBuilder(settings, ScriptedTeacher("s", script)).run()


def sometimes_right(messages, sampling, index):
    a, b = (int(word) for word in messages[-1].content.rstrip(" =").split(" + "))
    return f"It is {a + b + index % 2}."


def test_a_right_answer_is_paired_with_a_wrong_one_of_the_same_model(tmp_path):
    report = build(tmp_path, sometimes_right)
    assert [(row.chosen[0].content, row.rejected[0].content) for row in report.rows] == [
        ("It is 3.", "It is 4."),
        ("It is 7.", "It is 8."),
        ("It is 11.", "It is 12."),
    ]
    assert report.rows[0].meta["num_right"] == report.rows[0].meta["num_wrong"] == 4
    assert report.rows[0].meta["answer"] == 3


def test_tasks_that_cannot_teach_are_dropped_by_what_is_missing(tmp_path):
    def script(messages, sampling, index):
        text = messages[-1].content
        if text.startswith("1"):
            return "It is 3."
        if text.startswith("3"):
            return "It is 99."
        if text.startswith("5"):
            return Completion("It is", "length")
        return sometimes_right(messages, sampling, index)

    report = build(tmp_path, script, sums=((1, 2), (3, 4), (5, 6), (7, 8)))
    assert len(report.rows) == 1
    assert {row.reason for row in report.dropped} == {"all_right", "all_wrong", "none_ended"}
    assert report.dropped[0].meta["answer"] == 3


def test_a_right_answer_that_was_cut_off_is_on_neither_side(tmp_path):
    def script(messages, sampling, index):
        return Completion("It is 3. And", "length") if index == 0 else sometimes_right(messages, sampling, index)

    report = build(tmp_path, script, sums=((1, 2),))
    assert report.rows[0].chosen[0].content == "It is 3."


def test_a_task_on_both_sides_of_the_split_is_refused(tmp_path):
    heldout = tasks(tmp_path / "heldout.jsonl", (3, 4))
    with pytest.raises(DataError, match="also stand in prompts"):
        build(tmp_path, sometimes_right, f"heldout={heldout}")


def test_held_out_tasks_keep_their_answer_for_the_comparison(tmp_path):
    build(tmp_path, sometimes_right, f"heldout={tasks(tmp_path / 'heldout.jsonl', (8, 9))}")
    assert json.loads((tmp_path / "out" / "heldout.jsonl").read_text())["meta"] == {"answer": 17}

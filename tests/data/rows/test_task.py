"""Tasks: a prompt, and columns that reach the rewards as they stand in the file."""

from __future__ import annotations

import json

import pytest

from align.data.files.rows import read_rows, write_rows
from align.data.rows.message import Message
from align.data.rows.pair import PreferencePair, RowError
from align.data.rows.task import TAKEN_NAMES, Task

PROMPT = [{"role": "user", "content": "2 + 2 ="}]


def test_a_task_is_written_as_it_was_read(tmp_path):
    row = {"prompt": PROMPT, "answer": 4, "share": 4.0, "meta": {"a": [1, {"b": None}]}, "empty": {}, "text": "四"}
    (tmp_path / "x.jsonl").write_text(json.dumps(row) + "\n")
    file = read_rows(tmp_path / "x.jsonl", Task)
    assert file.rows[0].to_dict() == row and isinstance(file.rows[0].columns["answer"], int)
    write_rows(tmp_path / "y.jsonl", file.rows)
    assert read_rows(tmp_path / "y.jsonl", Task).rows == file.rows


def test_a_preference_pair_is_a_task(tmp_path):
    pair = PreferencePair((Message("user", "?"),), (Message("assistant", "a"),), (Message("assistant", "b"),), {"k": 1})
    for name in ("x.jsonl", "x.parquet"):
        write_rows(tmp_path / name, [pair])
        row = read_rows(tmp_path / name, Task).rows[0]
        assert row.prompt == pair.prompt
        assert row.columns == {
            "chosen": pair.to_dict()["chosen"],
            "rejected": pair.to_dict()["rejected"],
            "meta": {"k": 1},
        }


@pytest.mark.parametrize("name", TAKEN_NAMES)
def test_a_column_that_collides_with_trl_is_refused(name):
    with pytest.raises(RowError, match=f"must not have the column {name} .*rename it"):
        Task.from_dict({"prompt": PROMPT, name: 1})


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([], "not_an_object"),
        ({"question": "2 + 2"}, "missing_column"),
        ({"prompt": "2 + 2"}, "plain_text"),
        ({"prompt": [*PROMPT, {"role": "assistant", "content": "4"}]}, "wrong_turns"),
        ({"prompt": PROMPT, "answer": b"4"}, "wrong_type"),
        ({"prompt": PROMPT, "answer": float("nan")}, "wrong_type"),
    ],
)
def test_what_is_no_task_is_refused(values, reason):
    with pytest.raises(RowError) as caught:
        Task.from_dict(values)
    assert caught.value.reason == reason

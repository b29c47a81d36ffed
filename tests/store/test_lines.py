"""Lines: whole or not there, whatever the disk and the power do."""

from __future__ import annotations

import json
import os

import pytest

from align.errors import StorageError
from align.store.lines import append_line, cut_half_line, whole_lines
from tests.store.limits import files_end_at


def test_lines_stand_in_their_order_as_they_were_given(tmp_path):
    path = tmp_path / "lines.jsonl"
    for text in ("first", "第二\n行", "third\r"):
        append_line(path, {"text": text})
    assert [json.loads(line)["text"] for line in whole_lines(path)] == ["first", "第二\n行", "third\r"]
    assert "第二" in path.read_text(encoding="utf-8")


def test_a_line_for_which_there_is_no_room_is_undone_and_the_bytes_are_named(tmp_path):
    path = tmp_path / "lines.jsonl"
    append_line(path, {"number": 1})
    before = path.read_bytes()
    with (
        files_end_at(len(before) + 5),
        pytest.raises(StorageError, match=r"14 bytes were to be written, [1-9]") as told,
    ):
        append_line(path, {"number": 2})
    assert str(path) in str(told.value) and path.read_bytes() == before
    append_line(path, {"number": 3})
    assert [json.loads(line)["number"] for line in whole_lines(path)] == [1, 3]


def test_a_line_that_json_cannot_hold_leaves_the_file_as_it_was(tmp_path):
    append_line(tmp_path / "lines.jsonl", {"number": 1})
    with pytest.raises(TypeError):
        append_line(tmp_path / "lines.jsonl", {"number": object()})
    assert whole_lines(tmp_path / "lines.jsonl") == [b'{"number": 1}']


@pytest.mark.parametrize(
    ("there", "left"),
    [(b"", b""), (b"a\n", b"a\n"), (b"a\nhal", b"a\n"), (b"half", b""), (b"a\n\n\xe4\xb8", b"a\n\n")],
)
def test_half_a_line_is_passed_over_by_readers_and_cut_before_the_next_one(tmp_path, there, left):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(there)
    assert whole_lines(path) == left.split(b"\n")[:-1] and path.read_bytes() == there
    assert cut_half_line(path) == len(there) - len(left)
    assert path.read_bytes() == left
    assert cut_half_line(path) == 0


def test_a_file_that_is_not_there_has_no_lines_and_is_not_made(tmp_path):
    assert whole_lines(tmp_path / "lines.jsonl") == [] and cut_half_line(tmp_path / "lines.jsonl") == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_file_that_may_not_be_written_is_told_even_where_nothing_is_to_be_cut(tmp_path):
    (tmp_path / "lines.jsonl").write_bytes(b"a\n")
    (tmp_path / "lines.jsonl").chmod(0o400)
    with pytest.raises(PermissionError):
        cut_half_line(tmp_path / "lines.jsonl")

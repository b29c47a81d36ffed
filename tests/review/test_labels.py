"""Labels: on disk at once, whole after a kill, one writer, and an undo that leaves a trace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from align.data.rows.pair import PreferencePair
from align.errors import DataError, RefusedError, StorageError
from align.review.labels import Label, LabelFile, now, pair_key, read_labels
from tests.review.making import pair
from tests.store.limits import files_end_at

KEYS = [pair_key(pair(number)) for number in range(5)]


def label(number: int, word="ok") -> Label:
    return Label(KEYS[number], word, now(), 2.5, "chosen")


def test_a_pairs_key_is_its_text_and_not_its_meta():
    assert pair_key(pair(1)) == pair_key(pair(1, builder="X")) != pair_key(pair(2))
    assert pair_key(pair(1)) != pair_key(pair(1, is_wrong=True))


def test_labels_are_read_back_in_order_and_a_later_one_replaces_an_earlier(tmp_path):
    path = tmp_path / "labels.jsonl"
    with LabelFile(path) as file:
        for one in (label(0), label(1, "wrong"), label(0, "tie")):
            file.add(one)
    assert {key: one.label for key, one in read_labels(path).items()} == {KEYS[0]: "tie", KEYS[1]: "wrong"}
    assert list(json.loads(path.read_text().splitlines()[0])) == ["key", "label", "time", "seconds", "first"]


def test_undo_takes_back_the_last_label_across_sessions_and_the_file_only_grows(tmp_path):
    path = tmp_path / "labels.jsonl"
    with LabelFile(path) as file:
        file.add(label(0))
        file.add(label(1))
        before = path.read_bytes()
    with LabelFile(path) as file:
        assert file.undo() == label(1) or file.undo() is not None
        assert list(file.labels) == [KEYS[0]]
    assert path.read_bytes().startswith(before) and len(path.read_bytes().splitlines()) == 3
    with LabelFile(path) as file:
        file.add(label(1, "wrong"))
        assert [file.undo(), file.undo(), file.undo()][2] is None
    assert read_labels(path) == {}


@pytest.mark.parametrize("torn", [b'{"key": "ab', b"\xe4\xb8", b'{"key": "a", "label": "ok"}'])
def test_a_half_written_last_line_is_passed_over_and_cut_before_writing(tmp_path, torn):
    path = tmp_path / "labels.jsonl"
    with LabelFile(path) as file:
        file.add(label(0))
    path.write_bytes(path.read_bytes() + torn)
    assert list(read_labels(path)) == [KEYS[0]]
    with LabelFile(path) as file:
        assert file.num_cut_bytes == len(torn)
        file.add(label(1))
    assert list(read_labels(path)) == KEYS[:2]


@pytest.mark.parametrize(
    "line",
    ["{}", "[1]", "half", '{"key": "a", "label": "good", "time": "", "seconds": 1, "first": "chosen"}', "",
     '{"key": "a", "label": "undo"}'],
)  # fmt: skip
def test_a_line_that_is_no_label_is_named_and_nothing_is_lost(tmp_path, line):
    path = tmp_path / "labels.jsonl"
    with LabelFile(path) as file:
        file.add(label(0))
    path.write_text(path.read_text() + line + "\n")
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"labels\.jsonl:2: a line must be a label"):
        LabelFile(path)
    assert path.read_bytes() == before


def test_one_writer_at_a_time_even_within_a_process(tmp_path):
    path = tmp_path / "labels.jsonl"
    with LabelFile(path) as file:
        with pytest.raises(RefusedError, match="another review"):
            LabelFile(path)
        file.add(label(0))
    with LabelFile(path) as file:
        assert list(file.labels) == [KEYS[0]]


def test_a_label_for_which_there_is_no_room_is_undone_and_can_be_given_again(tmp_path):
    path = tmp_path / "labels.jsonl"
    with LabelFile(path) as file:
        file.add(label(0))
        before = path.read_bytes()
        with files_end_at(len(before) + 20), pytest.raises(StorageError, match="bytes were to be written"):
            file.add(label(1))
        assert path.read_bytes() == before and list(file.labels) == KEYS[:1]
        file.add(label(1))
    assert list(read_labels(path)) == KEYS[:2]


def test_reading_the_labels_beside_an_open_review_does_not_let_a_second_one_in(tmp_path):
    path = tmp_path / "labels.jsonl"
    code = "import sys; from pathlib import Path; from align.review.labels import *; LabelFile(Path(sys.argv[1]))"
    with LabelFile(path) as file:
        file.add(label(0))
        read_labels(path)
        second = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert f"another review of this dataset is open (process {os.getpid()} on " in second.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_cannot_be_written_is_told(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="must be writable"):
        LabelFile(tmp_path / "labels.jsonl")


def test_every_label_that_was_reported_survives_a_kill(tmp_path):
    path = tmp_path / "labels.jsonl"
    code = (
        "import sys; from pathlib import Path; from align.review.labels import *\n"
        "with LabelFile(Path(sys.argv[1])) as file:\n"
        "    for number in range(10_000):\n"
        "        file.add(Label(str(number), 'ok', now(), 1.0, 'chosen')); print(number, flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) as process:
        seen = [int(process.stdout.readline()) for _ in range(50)]
        process.send_signal(signal.SIGKILL)
        seen += [int(line) for line in process.stdout]
    with LabelFile(path) as file:
        assert set(map(str, seen)) <= set(file.labels)


def test_a_label_holds_for_the_text_it_was_given_for():
    one = pair(3, seed=1)
    assert pair_key(PreferencePair.from_dict(one.to_dict())) == pair_key(replace(one, meta={}))

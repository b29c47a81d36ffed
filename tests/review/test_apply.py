"""Apply: every row is accounted for, wrong pairs are swapped whole, and what a person could not decide is set aside."""

from __future__ import annotations

import json
import re

import pytest

from align.cli import app
from align.data.files.rows import read_rows
from align.data.rows.pair import Dropped, PreferencePair
from align.errors import ConfigError, DataError
from align.review.apply import apply_labels
from tests.review.making import GOOD, knowing, pair, review_with, save

JUDGE = {"winner": "chosen", "votes": {"chosen": 1, "rejected": 1}, "is_consistent": False}


def answers(question):
    number = int(question.pair.prompt[0].content.split(":")[0].split()[1])
    return {0: "t", 1: "s"}.get(number, knowing(question))


@pytest.fixture
def reviewed(tmp_path):
    """30 pairs and a repeated one, every third wrong; all asked, the first a tie, the second skipped."""
    sides = {"chosen": {"tokens": 1}, "rejected": {"tokens": 2}}
    pairs = [pair(number, number % 3 == 2, **sides, judge=JUDGE) for number in range(30)]
    folder = save(tmp_path / "data", [*pairs, pairs[2]])
    review_with(folder, answers, 30)
    return folder


def test_nothing_is_lost_and_all_is_counted(reviewed, tmp_path):
    applied = apply_labels(reviewed, tmp_path / "out.jsonl")
    kept, removed = read_rows(applied.kept, PreferencePair).rows, read_rows(applied.removed, Dropped).rows
    assert applied.counts == {"ok": 18, "wrong": 11, "tie": 1, "skip": 1} and applied.num_repeated == 1
    assert (len(kept), len(removed)) == (29, 2)
    assert [row.reason for row in removed] == ["review_tie", "review_skip"]
    assert PreferencePair.from_dict(removed[0].meta["row"]).prompt == pair(0).prompt


def test_a_wrong_pair_is_swapped_with_what_is_known_of_its_sides(reviewed, tmp_path):
    kept = read_rows(apply_labels(reviewed, tmp_path / "out.jsonl").kept, PreferencePair).rows
    assert all(row.chosen[0].content == GOOD for row in kept)
    swapped = next(row for row in kept if row.meta["reviewed"]["swapped"])
    assert (swapped.meta["chosen"], swapped.meta["rejected"]) == ({"tokens": 2}, {"tokens": 1})
    assert swapped.meta["reviewed"]["judge_before"] == JUDGE and "judge" not in swapped.meta
    straight = next(row for row in kept if not row.meta["reviewed"]["swapped"])
    assert straight.meta["judge"] == JUDGE and straight.meta["reviewed"]["label"] == "ok"


def test_pairs_that_were_not_asked_stay_as_they_were_and_the_estimate_lies_beside(tmp_path):
    pairs = [pair(number, number % 3 == 0) for number in range(60)]
    folder = save(tmp_path / "data", pairs)
    review_with(folder, knowing, 20)
    applied = apply_labels(folder, tmp_path / "out" / "pairs.jsonl")
    kept = read_rows(applied.kept, PreferencePair).rows
    assert applied.counts["not asked"] == 40 and sum("reviewed" not in row.meta for row in kept) == 40
    record = json.loads((tmp_path / "out" / "noise.json").read_text())
    assert record["noise_after_corrections"]["value"] == pytest.approx(record["noise_of_rest"]["value"] * 40 / 60)


def test_the_dataset_itself_is_never_overwritten(reviewed):
    with pytest.raises(ConfigError, match="must not be the file that was reviewed"):
        apply_labels(reviewed, reviewed / "pairs.jsonl")


def test_labels_have_to_be_there(tmp_path):
    folder = save(tmp_path, [pair(0), pair(1)])
    with pytest.raises(DataError, match="no pair is labelled; run align review --terminal"):
        apply_labels(folder, tmp_path / "out.jsonl")
    review_with(folder, lambda _: "t", 2)
    with pytest.raises(DataError, match="no row is left"):
        apply_labels(folder, tmp_path / "out.jsonl")


def test_the_command_prints_one_table_whose_rows_add_up(reviewed, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        app(["review", str(reviewed), "--apply", str(tmp_path / "out.jsonl")])
    shown = capsys.readouterr().out
    assert ended.value.code == 0 and "sides swapped, kept" in shown
    assert re.search(r"all rows of the file +31\b", shown)

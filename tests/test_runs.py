"""Run folder: what it records, and whom it lets in."""

from __future__ import annotations

import json

import pytest

from align.errors import ConfigError
from align.records import read_json
from align.runs import RunFolder, git_state, versions


def open_run(folder, **identity):
    return RunFolder.open(str(folder), {"model": "m"}, {"settings": identity})


def test_a_run_records_settings_versions_command_and_identity(tmp_path):
    run = open_run(tmp_path / "run", beta=1)
    record = read_json(run.path / "run.json")
    assert record["versions"]["trl"].startswith("1.")
    assert record["identity_of"] == {"settings": {"beta": 1}}
    assert (run.path / "config.yaml").read_text() == "model: m\n"


def test_metrics_carry_their_attempt_and_survive_a_second_start(tmp_path):
    open_run(tmp_path).log({"step": 1, "loss": 0.5})
    open_run(tmp_path).log({"step": 1, "loss": 0.6})
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["attempt"], row["loss"]) for row in rows] == [(1, 0.5), (2, 0.6)]


def test_a_finished_run_is_not_run_again(tmp_path):
    open_run(tmp_path, beta=1).finish(0, "done")
    assert open_run(tmp_path, beta=1) is None


def test_a_folder_with_another_finished_run_is_refused(tmp_path):
    open_run(tmp_path, beta=1).finish(0, "done")
    with pytest.raises(ConfigError, match=r"another run finished here; what is different now:\n  settings.beta: 1 → 2"):
        open_run(tmp_path, beta=2)


def test_a_failed_run_may_be_started_again_with_other_settings(tmp_path):
    open_run(tmp_path, beta=1).finish(2, "wrong")
    assert open_run(tmp_path, beta=2).attempt == 2


def test_a_start_that_is_refused_changes_nothing(tmp_path):
    open_run(tmp_path, beta=1).finish(75, "pre-empted")
    (tmp_path / "checkpoints" / "checkpoint-2").mkdir(parents=True)
    (tmp_path / "checkpoints" / "checkpoint-2" / "manifest.json").write_text("{}")
    before = {file.name: file.read_bytes() for file in tmp_path.glob("*.*")}
    with pytest.raises(ConfigError, match="another run has checkpoints here"):
        open_run(tmp_path, beta=2)
    assert {file.name: file.read_bytes() for file in tmp_path.glob("*.*")} == before
    assert open_run(tmp_path, beta=1).attempt == 2


def test_half_a_row_that_a_power_cut_left_is_cut(tmp_path):
    open_run(tmp_path).log({"step": 1})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"attempt": 1, "st')
    open_run(tmp_path).log({"step": 2})
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]


def test_versions_name_what_is_not_installed():
    assert set(versions()) >= {"torch", "trl", "transformers", "peft"}


def test_git_state_is_empty_outside_a_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert git_state() == {}

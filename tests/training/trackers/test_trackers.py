"""Trackers: training never hears of them, nothing secret reaches them, and they get every row."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from transformers.integrations.integration_utils import rewrite_logs

from align.data.files.rows import write_rows
from align.recipes.dpo import DPORecipe
from align.recipes.run.card import write_card
from align.store.records import read_json
from align.store.run_folder import RunFolder
from align.training.loop.record import RecordCallback
from align.training.trackers.isolate import isolate_trackers
from align.training.trackers.process import _curve_name
from tests import wandb_file
from tests.recipes.conftest import pair

CANARY = "sk-CANARY1234567890abcdef"
SHOWN = ("train/rewards/margins", "train/rewards/accuracies", "train/logps/chosen", "train/logps/rejected")
KEY = "0123456789abcdef0123456789abcdef01234567"


class Started:
    """A DPO run of four steps on the tiny model, ready to train."""

    def __init__(self, tiny_model: str, folder: Path, *words: str) -> None:
        write_rows(folder / "pairs.jsonl", [pair(number) for number in range(16)])
        self.recipe = DPORecipe.from_file(
            None,
            f"model={tiny_model}",
            f"train_data={folder / 'pairs.jsonl'}",
            f"output_dir={folder / 'run'}",
            "compute=float32",
            "trainer={max_steps: 4, logging_steps: 1, learning_rate: 1e-3, per_device_train_batch_size: 4}",
            "trainer.gradient_checkpointing=false",
            "trainer.save_strategy='no'",
            *words,
        )
        self.trainer = self.recipe.prepare()
        settings = self.recipe.settings.model_dump(mode="json")
        identity = {"settings": settings, "data": {}, "model": "0"}
        opened = RunFolder.open(self.recipe.settings.output_dir, settings, identity)
        assert opened is not None
        self.run = opened
        self.folder = opened.path

    def train(self) -> dict[str, dict[str, object]]:
        self.trainer.add_callback(RecordCallback(self.run))
        with isolate_trackers(self.trainer, self.run) as trackers:
            self.trainer.train()
            ended = trackers.close(seconds=60)  # a loaded machine must not fail a test
        self.run.leave()  # as its process does when it ends
        return ended

    def rows(self) -> list[dict[str, float]]:
        return [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]

    def wandb_files(self) -> list[Path]:
        return sorted(self.folder.glob("wandb/*run-2*/*.wandb"), key=lambda path: path.stat().st_mtime)


@pytest.fixture
def start(tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Started]]:
    """Starts a run whose wandb is offline unless the test says otherwise."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    before = psutil.Process().children()  # of other tests
    yield lambda *words: Started(tiny_model, tmp_path, *words)
    for child in psutil.Process().children():
        if child not in before:
            child.wait(30)


def until(is_true: Callable[[], object]) -> None:
    """Wait for another process, a minute at most."""
    deadline = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < deadline


def rows_taken(run: RunFolder) -> int:
    return read_json(run.path / "trackers" / "wandb.json").get("rows", 0)


def test_an_offline_wandb_run_holds_what_metrics_jsonl_holds(start):
    started = start("trainer.report_to=wandb")
    report = started.train()["wandb"]
    rows, (file,) = started.rows(), started.wandb_files()
    sent = wandb_file.history(file)
    assert (report["rows"], report["rows_not_taken"], report["error"]) == (len(rows), 0, None)
    assert [row["train/global_step"] for row in sent] == [row["step"] for row in rows]
    for row, one in zip(rows[:4], sent[:4], strict=True):
        assert {name: one[name] for name in SHOWN} == {name: row[name.removeprefix("train/")] for name in SHOWN}


def test_wandb_gets_the_settings_and_the_command_but_nothing_of_the_machine(start):
    started = start("trainer.report_to=wandb", "trainer.beta=0.25")
    started.train()
    (file,) = started.wandb_files()
    config = wandb_file.config(file)
    assert config["beta"] == 0.25 and config["hidden_size"] == 64
    assert config["align"]["command"] == read_json(started.folder / "run.json")["command"]
    assert not list(started.folder.rglob("wandb-metadata.json")) + list(started.folder.rglob("requirements.txt"))
    assert (wandb_file.run(file).display_name, wandb_file.run(file).host) == ("run", "")


@pytest.mark.parametrize("name", ["loss", "rewards/margins", "eval_loss", "eval_rewards/margins", "test_loss", "epoch"])
def test_metrics_have_the_names_that_transformers_gives(name):
    assert {_curve_name(name): 1} == rewrite_logs({name: 1})


def test_a_second_start_goes_on_in_the_same_wandb_run(start):
    for _ in range(2):
        report = start("trainer.report_to=wandb").train()["wandb"]
        assert report["rows"] == 5
    files = start().wandb_files()
    assert {wandb_file.run(file).run_id for file in files} == {report["id"]}
    assert [row["_step"] for file in files for row in wandb_file.history(file)] == list(range(10))


def test_the_canary_is_in_no_byte(start, monkeypatch, capfd):
    monkeypatch.setenv("DEEPSEEK_API_KEY", "an-ordinary-looking-canary")
    settings = f"{{run_name: 'x {CANARY}', hub_token: {CANARY}, project: an-ordinary-looking-canary}}"
    started = start("trainer.report_to=wandb", *(f"trainer.{word}" for word in _words(settings)))
    started.train()
    started.trainer.save_model(str(started.folder / "model"))
    started.run.finish(2, f"api_key={CANARY}")
    write_card(started.folder, "DPORecipe", started.recipe.settings, {})
    files = [path for path in started.folder.rglob("*") if path.is_file()]
    assert {"config.yaml", "run.json", "training_args.bin", "debug.log"} <= {path.name for path in files}
    output = capfd.readouterr()
    for data in [*(path.read_bytes() for path in files), (output.out + output.err).encode()]:
        assert b"CANARY" not in data and b"ordinary-looking" not in data


def _words(settings: str) -> list[str]:
    return [item.strip().replace(": ", "=", 1) for item in settings.strip("{}").split(",")]


@pytest.mark.parametrize("accepts", [False, True], ids=["refuses", "never answers"])
def test_a_server_that_cannot_be_reached_makes_the_run_an_offline_one(start, monkeypatch, capfd, accepts):
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        if not accepts:
            server.close()
        _use_server(monkeypatch, port)
        monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
        started = start("trainer.report_to=wandb")
        report = started.train()["wandb"]
    assert str(report["error"]).startswith("offline from the start")
    assert len(started.rows()) == report["rows"] == 5
    assert len(wandb_file.history(started.wandb_files()[-1])) == 5
    assert capfd.readouterr().err.count("wandb: warning") == 1


def test_a_tracker_that_hangs_at_the_end_is_left_behind_and_named_once(start, monkeypatch, capsys):
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        _use_server(monkeypatch, server.getsockname()[1])
        started = start("trainer.report_to=wandb")
        trackers = isolate_trackers(started.trainer, started.run)
        started.run.log({"step": 1, "loss": 1.0})
        report = trackers.close(seconds=0.5)["wandb"]
    assert report["error"] == "the tracker's process did not finish within 0.5 s"
    assert (report["rows"], report["rows_not_taken"]) == (0, 1)
    assert capsys.readouterr().out.count("warning: wandb") == 1


@pytest.mark.parametrize("whole_process", [False, True], ids=["service", "process"])
def test_killing_wandb_loses_nothing_in_metrics_jsonl(start, whole_process):
    started = start("trainer.report_to=wandb")
    trackers = isolate_trackers(started.trainer, started.run)
    started.trainer.add_callback(RecordCallback(started.run))
    started.run.log({"step": 0, "loss": 1.0})
    until(lambda: rows_taken(started.run))
    child = psutil.Process(trackers._processes[0]._child.pid)
    for process in [child] if whole_process else child.children():
        process.send_signal(signal.SIGKILL)
    started.trainer.train()
    report = trackers.close(seconds=60)["wandb"]
    assert len(started.rows()) == 6
    assert report["error"] and report["rows_not_taken"] == 6 - report["rows"]


def test_a_trainer_that_was_killed_leaves_a_tracker_that_finishes_by_itself(start):
    started = start("trainer.report_to=wandb")
    trackers = isolate_trackers(started.trainer, started.run)
    for step in range(3):
        started.run.log({"step": step, "loss": 1.0})
    (process,) = trackers._processes
    process._close_pipe()  # what the end of the trainer's process does
    assert process._child.wait(30) == 0
    assert len(wandb_file.history(started.wandb_files()[0])) == 3


def test_without_report_to_there_is_no_tracker(start):
    started = start()
    assert started.train() == {}
    assert not (started.folder / "trackers").exists()


def test_tensorboard_gets_the_rows_by_the_same_road(start):
    pytest.importorskip("tensorboard", reason="tensorboard is no dependency of ours")
    started = start("trainer.report_to=tensorboard")
    trackers = isolate_trackers(started.trainer, started.run)
    started.run.log({"step": 1, "rewards/margins": 0.5})
    until(lambda: read_json(started.folder / "trackers" / "tensorboard.json").get("rows"))
    assert trackers.close(seconds=60)["tensorboard"]["error"] is None
    (file,) = (started.folder / "tensorboard").glob("events*")
    assert b"train/rewards/margins" in file.read_bytes()


def _use_server(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("WANDB_API_KEY", KEY)

"""Trackers: what `report_to` names (wandb, say) runs in a process of its own, where it cannot stop or slow training.

Training writes `metrics.jsonl` and nothing else. A child process (`process.py`) follows that file and hands
each row to the tracker, under the names that transformers' callbacks give.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import string
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from transformers import Trainer
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from align.store.records import read_json, write_json
from align.store.redact import redact
from align.store.run_folder import RunFolder

SECONDS_TO_END = 10.0
"""How long a tracker may take to send what is left once training is over."""

_SENT = ("command", "versions", "git", "identity_of")
"""Of `run.json`, what trackers get beside the trainer's arguments."""
_PATHS = frozenset({"output_dir", "logging_dir"})


def isolate_trackers(trainer: Trainer, run: RunFolder) -> Trackers:
    """Take the trackers off a trainer and follow the run's `metrics.jsonl` with them instead. Call it on every rank.

    The trainer's own arguments lose their secrets too, since they are written beside each checkpoint.
    """
    _redact_arguments(trainer.args)
    names = [
        name
        for name, callback in INTEGRATION_TO_CALLBACK.items()
        if any(type(one) is callback for one in trainer.callback_handler.callbacks)
    ]
    start = _start_message(trainer, run)
    for name in names:
        trainer.remove_callback(INTEGRATION_TO_CALLBACK[name])
    if names and getattr(trainer.args, "log_completions", False):
        print(
            f"  completions are kept in {trainer.args.output_dir}/completions; {', '.join(names)} gets the numbers only"
        )
    trainer.args.report_to = []  # GRPO would write tables into a tracker that this process does not have
    return Trackers([_Process(name, run, start) for name in names if trainer.is_world_process_zero()])


class Trackers:
    """The trackers of one run while it trains; none is a valid number of them."""

    def __init__(self, processes: list[_Process]) -> None:
        self._processes = processes
        self._reports: dict[str, dict[str, Any]] | None = None

    def __enter__(self) -> Trackers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self, seconds: float = SECONDS_TO_END) -> dict[str, dict[str, Any]]:
        """End all trackers, in `seconds` together; returns tracker → id, rows taken and not taken, error, address."""
        if self._reports is None:
            for process in self._processes:
                process.ask_to_end()
            deadline = time.monotonic() + seconds
            self._reports = {process.name: process.end(deadline, seconds) for process in self._processes}
        return self._reports


class _Process:
    """One tracker's process, and the file in which it says how far it is."""

    def __init__(self, name: str, run: RunFolder, start: Mapping[str, Any]) -> None:
        self.name = name
        self._metrics = run.path / "metrics.jsonl"
        written = self._metrics.read_bytes() if self._metrics.exists() else b""
        self._num_rows_before = written.count(b"\n")
        self._report = run.path / "trackers" / f"{name}.json"
        self._report.parent.mkdir(exist_ok=True)
        identifier = read_json(self._report).get("id") or _new_id()
        write_json(self._report, {"id": identifier, "rows": 0, "error": None, "address": None})
        message = {
            **start,
            "tracker": name,
            "report": str(self._report),
            "offset": len(written),
            "rows_before": self._num_rows_before,
        }
        self._child = subprocess.Popen(
            [sys.executable, "-m", "align.training.trackers.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **_environment(run.path.resolve(), identifier)},
            start_new_session=True,  # Ctrl-C and launchers that kill their group leave it time to finish
            text=True,
        )
        self._send(json.dumps(message, default=_plain))

    def ask_to_end(self) -> None:
        self._send("end")

    def end(self, deadline: float, seconds: float) -> dict[str, Any]:
        is_late = False
        try:
            self._child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            is_late = True
            os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()
        self._close_pipe()
        report = read_json(self._report)
        report["rows_not_taken"] = self._num_rows() - report["rows"]
        if report["error"] is None and (is_late or self._child.returncode != 0):
            how = f"did not finish within {seconds:g} s" if is_late else f"ended with {self._child.returncode}"
            report["error"] = f"the tracker's process {how}"
            print(f"  warning: {self.name}: {report['error']}; every row is in {self._metrics}")
        write_json(self._report, report)
        return report

    def _send(self, line: str) -> None:
        assert self._child.stdin is not None
        with suppress(BrokenPipeError):  # it has ended already; its report says why
            self._child.stdin.write(line + "\n")
            self._child.stdin.flush()

    def _close_pipe(self) -> None:
        assert self._child.stdin is not None
        with suppress(BrokenPipeError):
            self._child.stdin.close()

    def _num_rows(self) -> int:
        written = self._metrics.read_bytes() if self._metrics.exists() else b""
        return written.count(b"\n") - self._num_rows_before


def _start_message(trainer: Trainer, run: RunFolder) -> dict[str, Any]:
    """What a tracker is told about the run: no secret, and nothing that this process still changes."""
    record = read_json(run.path / "run.json")
    arguments = {**trainer.args.to_dict(), "align": {name: record.get(name) for name in _SENT}}
    arguments["run_name"] = trainer.args.run_name or run.path.resolve().name
    adapters = getattr(trainer.model, "peft_config", None) or {}
    message = {
        "folder": str(run.path.resolve()),
        "metrics": str(run.path / "metrics.jsonl"),
        "arguments": arguments,
        "model_config": trainer.model.config.to_dict(),
        "adapters": {name: config.to_dict() for name, config in adapters.items()},
        # ZeRO-3 leaves an empty tensor in place of each shard.
        "num_parameters": sum(getattr(weight, "ds_numel", weight.numel()) for weight in trainer.model.parameters()),
        "seconds_to_end": SECONDS_TO_END,
    }
    return {**message, **{name: redact(message[name]) for name in ("arguments", "model_config", "adapters")}}


def _environment(folder: Path, identifier: str) -> dict[str, str]:
    """Files go into the run folder, and a second start continues the curves. What the user has set stays."""
    wanted = {
        "TENSORBOARD_LOGGING_DIR": str(folder / "tensorboard"),
        "SWANLAB_LOG_DIR": str(folder / "swanlog"),
        "SWANLAB_RUN_ID": identifier,
        "SWANLAB_RESUME": "allow",
    }
    # wandb then gives up by itself and says so; what it has not sent can still be sent with `wandb sync`.
    limits = {"WANDB_FINISH_TIMEOUT": str(SECONDS_TO_END - 3), "WANDB_FINISH_TIMEOUT_RAISES": "true"}
    return {name: value for name, value in wanted.items() if name not in os.environ} | limits


def _redact_arguments(arguments: Any) -> None:
    for name, value in vars(arguments).items():
        if isinstance(value, str | list | dict) and name not in _PATHS:
            shown = redact({name: value})[name]
            if shown != value:
                setattr(arguments, name, shown)


def _new_id() -> str:
    """21 small letters and digits: the only form that every tracker takes."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(21))


def _plain(value: Any) -> Any:
    return sorted(value, key=str) if isinstance(value, set | frozenset) else str(value)

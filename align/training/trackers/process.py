"""Tracker process: follows one run's `metrics.jsonl` and hands each row to one tracker, until training ends.

The first line of stdin says what to follow; the next one, or the end of stdin, says that training is over. wandb is
called directly, so that its process starts in a second; the others run under transformers' own callbacks.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol, TextIO

from align.store.records import read_json, write_json
from align.store.redact import redact

_SECONDS_BETWEEN_LOOKS = 0.5
_RESULTS = frozenset(
    {"train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss", "total_flos"}
)
"""One figure a run, not a curve."""


def main() -> int:
    """Follow until told to end; whatever a tracker raises is reported once and ends this process only."""
    control, terminal = _take_streams()
    start = json.loads(control.readline())
    report = _Report(Path(start["report"]), start["tracker"], terminal)
    ended = threading.Event()
    threading.Thread(target=_wait_for_end, args=(control, ended, start["seconds_to_end"]), daemon=True).start()
    try:
        _follow(start, report, ended)
    except Exception as error:
        report.error(f"{type(error).__name__}: {error}")
        return 1
    return 0


class _Tracker(Protocol):
    """What is done with rows; `__init__(start, report)` connects."""

    def log(self, number: int, step: int, logs: dict[str, Any]) -> None:
        """Take one row. `number` counts all rows of the run, so it grows even where a resumed run repeats a step."""

    def end(self) -> None:
        """Send what is left."""


class _Report:
    """How far the tracker is, in a file for the trainer, and a line on the terminal where a person should know."""

    def __init__(self, path: Path, name: str, terminal: TextIO) -> None:
        self._path = path
        self._name = name
        self._terminal = terminal
        self._data = read_json(path)
        self.identifier: str = self._data["id"]

    def add(self, **changes: Any) -> None:
        self._data |= redact(changes)
        write_json(self._path, self._data)

    def say(self, text: str) -> None:
        print(f"  {self._name}: {' '.join(redact(text).split())}", file=self._terminal, flush=True)

    def error(self, text: str) -> None:
        self.add(error=text)
        self.say(f"warning: {text}; training goes on, and every row is in metrics.jsonl")


class _Wandb:
    """wandb with the names that transformers' WandbCallback gives, and without console, code and machine.

    A server that cannot be reached, or no key for it, makes the run an offline one.
    """

    def __init__(self, start: Mapping[str, Any], report: _Report) -> None:
        import wandb

        try:
            self._run = wandb.init(**self._arguments(start, report))
        except wandb.Error as error:
            report.add(error=f"offline from the start: {error}")
            report.say(f"warning: {error}; it goes on offline, and `wandb sync` sends the run later")
            wandb.teardown()  # its service still holds the failed run under our id
            self._run = wandb.init(**self._arguments(start, report), mode="offline")
        self._run.define_metric("train/global_step")
        self._run.define_metric("*", step_metric="train/global_step", step_sync=True)
        if not self._run.offline and self._run.url:  # a disabled run has none
            report.add(address=self._run.url)
            report.say(str(self._run.url))

    def log(self, number: int, step: int, logs: dict[str, Any]) -> None:
        for name in _RESULTS & logs.keys():
            self._run.summary[name] = logs[name]
        curves = {_curve_name(name): value for name, value in logs.items() if name not in _RESULTS}
        self._run.log({**curves, "train/global_step": step}, step=number)

    def end(self) -> None:
        self._run.finish()

    def _arguments(self, start: Mapping[str, Any], report: _Report) -> dict[str, Any]:
        import wandb

        own = {
            "id": ("WANDB_RUN_ID", report.identifier),
            "resume": ("WANDB_RESUME", "allow"),
            "name": ("WANDB_NAME", start["arguments"]["run_name"]),
            "dir": ("WANDB_DIR", start["folder"]),
            "project": ("WANDB_PROJECT", "huggingface"),
        }
        settings = {
            "console": "off",
            "silent": True,
            "disable_code": True,
            "disable_git": True,
            "x_disable_meta": True,  # user, program and its arguments, hardware
            "host": "",
            "x_save_requirements": False,
            "x_stats_pid": os.getppid(),
        }
        if "WANDB_INIT_TIMEOUT" not in os.environ:
            settings["init_timeout"] = 30.0
        return {
            **{name: value for name, (variable, value) in own.items() if variable not in os.environ},
            "config": {
                "peft_config": start["adapters"],
                **start["model_config"],
                **start["arguments"],
                "model/num_parameters": start["num_parameters"],
            },
            "settings": wandb.Settings(**settings),
        }


class _Callback:
    """Any other tracker, through the callback that transformers has for it."""

    def __init__(self, start: Mapping[str, Any], report: _Report) -> None:
        from transformers import TrainerControl, TrainerState
        from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

        model = SimpleNamespace(
            config=_Settings(**start["model_config"]),
            peft_config=start["adapters"] or None,
            num_parameters=lambda: start["num_parameters"],
        )
        self._state = TrainerState()
        self._told = {
            "args": _Settings(**start["arguments"]),
            "state": self._state,
            "control": TrainerControl(),
            "model": model,
        }
        self._callback = INTEGRATION_TO_CALLBACK[start["tracker"]]()
        self._callback.on_train_begin(**self._told)

    def log(self, number: int, step: int, logs: dict[str, Any]) -> None:
        self._state.global_step = step
        self._callback.on_log(**self._told, logs=logs)

    def end(self) -> None:
        self._callback.on_train_end(**self._told)


class _Settings(SimpleNamespace):
    """What a callback asks of training arguments and of a model's config."""

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def to_json_string(self) -> str:
        return json.dumps(vars(self), indent=1)


def _follow(start: Mapping[str, Any], report: _Report, ended: threading.Event) -> None:
    tracker: _Tracker = (_Wandb if start["tracker"] == "wandb" else _Callback)(start, report)
    if hasattr(os, "nice"):
        os.nice(10)  # training first
    metrics = Path(start["metrics"])
    position, number = start["offset"], start["rows_before"]
    is_over = False
    while not is_over:
        is_over = ended.wait(_SECONDS_BETWEEN_LOOKS)
        data = _whole_lines(metrics, position)
        position += len(data)
        for line in data.splitlines():
            row = json.loads(line)
            logs = {name: value for name, value in row.items() if name not in ("step", "attempt", "time")}
            if "step" in row:
                tracker.log(number, row["step"], logs)
            number += 1
        if data:
            report.add(rows=number - start["rows_before"])
    tracker.end()


def _whole_lines(path: Path, position: int) -> bytes:
    """What was written since the last look, without a line that is still being written."""
    if not path.exists():
        return b""
    with path.open("rb") as file:
        file.seek(position)
        data = file.read()
    return data[: data.rfind(b"\n") + 1]


def _curve_name(name: str) -> str:
    """As transformers' `rewrite_logs` has it."""
    for split in ("eval", "test"):
        if name.startswith(f"{split}_"):
            return f"{split}/{name.removeprefix(f'{split}_')}"
    return f"train/{name}"


def _take_streams() -> tuple[TextIO, TextIO]:
    """Our own stdin and stderr; the tracker gets empty ones, so that it neither asks nor prints."""
    control = os.fdopen(os.dup(0), encoding="utf-8")
    terminal = os.fdopen(os.dup(2), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    return control, terminal


def _wait_for_end(control: TextIO, ended: threading.Event, seconds: float) -> None:
    """Training that was killed cannot end this process, so it ends itself."""
    control.readline()
    ended.set()
    time.sleep(seconds + 2)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())

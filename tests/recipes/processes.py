"""Processes: runs a recipe in a process of its own that is killed, or asked to stop, at a chosen moment.

A start costs six seconds of imports, so a fork server has done them once and each run is a fork of it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.models.identity import weights_sha256

HEAVY = [
    "torch",
    "transformers",
    "trl.trainer.sft_trainer",
    "trl.trainer.dpo_trainer",
    "trl.trainer.grpo_trainer",
    "peft",
    "pytest",
]
LIMIT = 60.0
"""Seconds that one process of the tiny model may take."""

STEP, SAVE, RENAME, ROTATE = PHASES = ("step", "save", "rename", "rotate")
"""Inside a training step; from the first file of a checkpoint to its manifest; the manifest's rename; a removal."""
EARLY, ANY, FINISH = "early", "any", "finish"
"""Before the trainer is built; any time after the first step has begun; from the last step to the end."""


@dataclass(frozen=True)
class Blow:
    """A signal, sent by the process to itself at a moment that the seed decides."""

    phase: str
    seed: int
    number: int = signal.SIGKILL
    times: int = 1
    """How often the signal is sent, without a pause between; more than once it is sent when a step begins."""
    within: float = 0.03
    """Seconds from the beginning of a step in which it may come."""


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    """Exit code, or minus the number of the signal that killed it."""
    output: str
    latency: float | None
    """Seconds from the signal to the end of the process; None when no signal was sent."""


def run_apart(recipe: str, words: Sequence[str], folder: Path, blow: Blow | None = None) -> Ended:
    """Run `module.Class` in a process of its own, with its output in `folder`."""
    return start_apart(recipe, words, folder, blow).wait()


class Running:
    """A process that has been started."""

    def __init__(self, process: Any, output: Path, strokes: Any) -> None:
        self.process, self.output, self.strokes = process, output, strokes
        self.struck: float | None = None
        """When the signal was sent, once that is known."""

    def wait_for_blow(self) -> float:
        """Wait until the signal is sent; returns when that was."""
        if self.struck is None:
            assert self.strokes.poll(LIMIT), self.output.read_text()
            self.struck = float(self.strokes.recv())
        return self.struck

    def wait(self) -> Ended:
        """Wait for its end, which must come within the limit."""
        self.process.join(LIMIT)
        ended = time.monotonic()
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
            raise AssertionError(f"still running after {LIMIT} s:\n{self.output.read_text()[-3000:]}")
        with contextlib.suppress(EOFError):  # there was no signal
            self.wait_for_blow()
        latency = None if self.struck is None else ended - self.struck
        return Ended(self.process.exitcode, self.output.read_text(), latency)


def start_apart(recipe: str, words: Sequence[str], folder: Path, blow: Blow | None = None) -> Running:
    """Start it and return at once."""
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / f"output-{len(list(folder.glob('output-*')))}.txt"
    output.touch()
    context = _context()
    strokes, told = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(recipe, list(words), str(output), blow, told), daemon=True)
    process.start()
    told.close()
    return Running(process, output, strokes)


@functools.cache
def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*HEAVY, __name__])
    return context


def _child(recipe: str, words: list[str], output: str, blow: Blow | None, told: Any) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    number = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(number, 1)
    os.dup2(number, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    module, _, name = recipe.rpartition(".")
    recipe_class = getattr(importlib.import_module(module), name)
    if blow is not None:
        recipe_class = Watcher(blow, told).watch(recipe_class)
    code = recipe_class.main(words)
    sys.stdout.flush()
    os._exit(code)


class Watcher:
    """Watches for the moment. Outside of steps, Python's audit events tell the phases apart, so nothing is patched."""

    def __init__(self, blow: Blow, told: Any) -> None:
        self.blow, self.told = blow, told
        self.random = random.Random(blow.seed)
        self.phase = ""
        self.num_left = self.random.randrange(2) if blow.phase != STEP else self.random.randrange(4)
        """Phases of the kind to let pass."""
        self.num_events = self.at_event = 0
        self.is_done = False
        self.lock = threading.RLock()
        """Held from a look at the phase to the signal, so that the phase cannot end in between."""

    def watch(self, recipe_class: Any) -> Any:
        """The recipe, under the same name, watched."""
        if self.blow.phase in (SAVE, RENAME, ROTATE, FINISH):
            sys.addaudithook(self._see)
            return recipe_class
        from transformers import TrainerCallback

        class Steps(TrainerCallback):
            def on_step_begin(_, *args: Any, **kwargs: Any) -> None:
                self._enter(STEP)

            def on_step_end(_, *args: Any, **kwargs: Any) -> None:
                with self.lock:
                    self.phase = ANY

        class Watched(recipe_class):
            def build_trainer(_) -> Any:
                if self.blow.phase == EARLY:
                    self._strike()
                trainer = recipe_class.build_trainer(_)
                trainer.add_callback(Steps())
                return trainer

        Watched.__name__, Watched.__doc__ = recipe_class.__name__, recipe_class.__doc__
        return Watched

    def _enter(self, phase: str) -> None:
        self.phase, self.num_events = phase, 0
        self.num_left -= 1
        if phase == STEP and self.num_left < 0 and not self.is_done:
            if self.blow.times > 1:
                return self._strike()
            self._strike_after(self.random.uniform(0, self.blow.within))

    def _see(self, event: str, args: tuple[Any, ...]) -> None:
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"):
            with self.lock:
                self._see_files(event, args)

    def _see_files(self, event: str, args: tuple[Any, ...]) -> None:
        if self.is_done:
            return
        if self.blow.phase == FINISH:
            self._see_finish(str(args[0]))
        elif event == "os.rename" and str(args[1]).endswith("manifest.json"):
            self._see_rename()
        elif event in ("os.remove", "os.rmdir", "shutil.rmtree"):
            self._see_removal(event, str(args[0]))
        elif self.phase == "renamed":
            self.phase = ""
            if self.blow.phase == RENAME and self.num_left < 0:
                self._strike()
        elif event == "os.mkdir" and "checkpoint-" in Path(str(args[0])).name:
            self._enter(SAVE) if self.blow.phase == SAVE else None
            self.phase = SAVE
            self.at_event = self.random.randrange(1, 18)
        elif self.phase == SAVE and self.blow.phase == SAVE and self.num_left < 0:
            self.num_events += 1
            if self.num_events == self.at_event:
                self._strike_after(self.random.uniform(0, 0.004))

    def _see_finish(self, name: str) -> None:
        if self.phase != FINISH and "/.model" in name:
            self._enter(FINISH)
            self.at_event = self.random.randrange(45)
        if self.phase == FINISH:
            if self.num_events == self.at_event:
                self._strike()
            self.num_events += 1

    def _see_rename(self) -> None:
        missed = self.phase == SAVE and self.blow.phase == SAVE and self.num_left < 0
        self.phase = "renamed"
        if missed:  # fewer events than the seed thought: the last moment before the manifest is there
            return self._strike()
        if self.blow.phase != RENAME:
            return
        self.num_left -= 1
        how = self.random.randrange(3)
        if self.num_left < 0 and how == 0:
            self._strike()
        elif self.num_left < 0 and how == 1:
            self.phase = RENAME
            self._strike_after(self.random.uniform(0, 0.0005))

    def _see_removal(self, event: str, name: str) -> None:
        if self.blow.phase != ROTATE or self.phase == SAVE:
            return
        if name.endswith("/manifest.json"):
            self._enter(ROTATE)
            self.at_event = self.random.randrange(14)
        if self.phase == ROTATE and self.num_left < 0:
            if self.num_events == self.at_event or (event == "os.rmdir" and "checkpoint-" in name):
                self._strike()
            self.num_events += 1

    def _strike_after(self, seconds: float) -> None:
        """From a thread, so also in the middle of what C++ or Rust writes; not if the phase is over by then."""
        phase = self.phase

        def now() -> None:
            with self.lock:
                if not self.is_done and (self.phase == phase or self.blow.phase == ANY):
                    self._strike()

        thread = threading.Timer(seconds, now)
        thread.daemon = True
        thread.start()

    def _strike(self) -> None:
        self.is_done = True
        self.told.send(time.monotonic())
        for _ in range(self.blow.times):
            os.kill(os.getpid(), self.blow.number)


def final_sha256(run: Path) -> str:
    """Fingerprint of the trained weights."""
    return weights_sha256(str(run / "model"))


def history(run: Path) -> dict[tuple[int, bool], dict[str, Any]]:
    """(step, whether held out) → the metrics of the last attempt that logged it, without what is about time."""
    rows: dict[tuple[int, bool], dict[str, Any]] = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        if "train_runtime" in row:
            continue
        kept = {name: value for name, value in row.items() if not _is_about_time(name)}
        rows[row["step"], "eval_loss" in row] = kept
    return rows


def _is_about_time(name: str) -> bool:
    return name in ("attempt", "time", "step_time") or name.endswith(("_runtime", "_per_second"))


def byte_sum(completions: list[Any], **columns: Any) -> list[float]:
    """A reward that differs between completions of random bytes."""
    return [float(sum(map(ord, completion[0]["content"])) % 7) for completion in completions]

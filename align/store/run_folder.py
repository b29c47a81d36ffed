"""Run folder: what a training run leaves behind, so that anyone can tell later what was done to what.

config.yaml    the settings, defaults included     run.json       versions, fingerprints, git state, command
metrics.jsonl  every logged row, with its attempt  result.json    what came out
exit.json      how it ended                        model/         the trained weights or adapter
README.md      the model card

`run.json` says `made_by: align`, and that is the mark of a run folder: one that is not empty and has no such mark is
somebody else's, and nothing in it is touched.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from align.errors import ConfigError, RefusedError, StorageError
from align.store.lines import append_line, cut_half_line
from align.store.lock import HeldError, Lock, is_lock
from align.store.records import differences, digest, read_json, write_json, write_yaml
from align.store.redact import redact, redact_command

_RECORD, _LOCK = "run.json", "lock"
_MARK = {"made_by": "align"}
_PACKAGES = (
    "align-recipes",
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "deepspeed",
    "tokenizers",
    "wandb",
)


@dataclass
class RunFolder:
    """One run's folder while the run is going on."""

    path: Path
    attempt: int
    """1 for the first start in this folder, one more for each start after it."""
    lock: Lock | None = None
    """Held until the run is finished; None in processes that do not write."""

    @classmethod
    def open(
        cls, path: str, settings: Mapping[str, Any], identity: Mapping[str, Any], anyway: bool = False
    ) -> RunFolder | None:
        """Take a folder for a run; None when this very run already finished in it.

        Secrets are taken out first: they reach no file, and another key is not another run.

        Args:
            settings: all of them, written to `config.yaml`.
            identity: what makes the run this run (settings that change weights, data and model fingerprints).
            anyway: take a folder in which another run of the same recipe saved, to train its checkpoint further.

        Raises:
            ConfigError: when the folder is not a run's, or another run finished or saved in it; nothing is changed.
            RefusedError: when another process is writing into it.
        """
        folder, lock = _take(path)
        settings, identity = redact(settings), redact(identity)
        with lock.released_on_error():
            key = digest(identity)
            before = read_json(folder / _RECORD)
            is_same = before.get("identity") == key
            is_finished = read_json(folder / "exit.json").get("code") == 0
            if is_finished and is_same:
                lock.release()
                return None
            has_checkpoints, was = _has_checkpoints(folder), before.get("identity_of", {})
            can_go_on = has_checkpoints and was.get("recipe") == identity.get("recipe")
            if not is_same and (is_finished or has_checkpoints) and not (anyway and can_go_on):
                lines = "\n  ".join(differences(was, identity))
                todo = "Set it back, or choose another output_dir."
                if can_go_on:
                    todo = (
                        "Set it back, choose another output_dir, or go on from its last checkpoint all the same with "
                        "resume=anyway."
                    )
                elif anyway:
                    todo += " It left no checkpoint that resume=anyway could go on from."
                raise ConfigError(
                    f"{folder}: another run {'finished' if is_finished else 'has checkpoints'} here; what is different "
                    f"now:\n  {lines}\n{todo}"
                )
            cut_half_line(folder / "metrics.jsonl")
            (folder / "exit.json").unlink(missing_ok=True)  # a run that is killed leaves none
            run = cls(folder, before.get("attempt", 0) + 1, lock)
            write_yaml(folder / "config.yaml", dict(settings))
            run._write_record(key, identity)
        return run

    def _write_record(self, key: str, identity: Mapping[str, Any]) -> None:
        record = {
            **_MARK,
            "attempt": self.attempt,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "command": command(),
            "python": sys.version.split()[0],
            "versions": versions(),
            "git": git_state(),
            "identity": key,
            "identity_of": identity,
        }
        write_json(self.path / _RECORD, record)

    def log(self, row: Mapping[str, Any]) -> None:
        """Append one row to `metrics.jsonl`; it is on disk when this returns."""
        append_line(self.path / "metrics.jsonl", {"attempt": self.attempt, "time": round(time.time(), 3), **row})

    def finish(self, code: int, message: str) -> None:
        """Record how the run ended."""
        try:
            write_json(self.path / "exit.json", {"code": code, "message": redact(message), "attempt": self.attempt})
        except StorageError as error:
            if code == 0:
                raise
            print(error, file=sys.stderr)  # how the run ended matters more than that it could not be written
        finally:
            self.leave()

    def leave(self) -> None:
        """Let others take the folder; `finish` does so too."""
        if self.lock is not None:
            self.lock.release()

    @classmethod
    def record_refusal(cls, path: str, code: int, message: str) -> None:
        """Record in `exit.json` that a run ended before it took its folder, unless a finished run or another is in it.

        For launched runs, whose launcher may replace the exit code.

        Raises: as `open`.
        """
        folder, lock = _take(path)
        if read_json(folder / "exit.json").get("code") == 0:
            lock.release()
        else:
            cls(folder, read_json(folder / _RECORD).get("attempt", 0), lock).finish(code, message)


def versions() -> dict[str, str]:
    """Installed versions of everything that shapes a run."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def git_state() -> dict[str, Any]:
    """Commit of the current folder and whether files differ from it; empty outside a repository."""
    try:
        commit = _git("rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {}


def command() -> str:
    """The command line as it can be typed again, launcher included, without secrets."""
    module = getattr(sys.modules.get("__main__"), "__spec__", None)
    words = [word for word in sys.argv[1:] if not word.startswith(("--local_rank=", "--local-rank="))]
    if module is not None and module.name != "__main__" and not sys.argv[0].endswith("/align"):
        return redact_command([*_launcher(), module.name.removesuffix(".__main__"), *words])
    return redact_command([Path(sys.argv[0]).name, *words])


def _launcher() -> list[str]:
    """How `-m` was reached; of several nodes only what is alike on all of them."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return ["torchrun", "--nproc_per_node", os.environ["LOCAL_WORLD_SIZE"], "-m"]
    if "LOCAL_SIZE" in os.environ and "RANK" in os.environ:
        return ["deepspeed", "--num_gpus", os.environ["LOCAL_SIZE"], "--module"]
    return ["python", "-m"]


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def _has_checkpoints(folder: Path) -> bool:
    return any(folder.glob("checkpoints/checkpoint-*/manifest.json"))


def _take(path: str) -> tuple[Path, Lock]:
    """The folder, new or a run's, with its mark in place, and its lock."""
    folder = Path(path)
    try:
        _must_be_ours(folder)
        folder.mkdir(parents=True, exist_ok=True)
        lock = Lock(folder / _LOCK)
    except HeldError as error:
        raise RefusedError(
            f"{folder}: {error.holder} is writing into this folder; wait for it, or choose another output_dir"
        ) from error
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise ConfigError(
            f"output_dir: {folder} must be a folder that a run can write into, but {error.filename}: {error.strerror}; "
            "choose another output_dir"
        ) from error
    with lock.released_on_error():
        if not (folder / _RECORD).exists():
            write_json(folder / _RECORD, _MARK)
    return folder, lock


def _must_be_ours(folder: Path) -> None:
    """Nothing is written into a folder that no run has made; one that is new or empty may become a run's.

    Raises:
        ConfigError: with what lies in the folder.
    """
    if not folder.exists():
        return
    others = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir() if _is_somebodys(path))
    record = read_json(folder / _RECORD)
    is_ours = record.get("made_by") == _MARK["made_by"] or "identity_of" in record  # runs before the mark had only that
    if others and not is_ours:
        shown = ", ".join(others[:4]) + (f" and {len(others) - 4} more" if len(others) > 4 else "")
        raise ConfigError(
            f"output_dir: {folder} must be new, empty or the folder of a run, but holds {shown} and no {_RECORD} that "
            "align wrote; nothing in it was changed. Choose another output_dir."
        )


def _is_somebodys(path: Path) -> bool:
    """Neither a folder that holds no file, nor what a start that was killed before it could set its mark leaves."""
    if path.is_dir() and not path.is_symlink():
        return any(inner.is_symlink() or not inner.is_dir() for inner in path.rglob("*"))
    if path.name == _LOCK and path.is_file():
        return not is_lock(path)
    return not path.name.startswith(f".{_RECORD}.")

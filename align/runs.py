"""Run folder: what a training run leaves behind, so that anyone can tell later what was done to what.

config.yaml    the settings, defaults included     run.json       versions, fingerprints, git state, command
metrics.jsonl  every logged row, with its attempt  result.json    what came out
exit.json      how it ended                        model/         the trained weights or adapter
README.md      the model card
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from align.errors import STORAGE_ERRNOS, ConfigError, RefusedError, StorageError
from align.redact import redact, redact_command
from align.yaml_file import write_yaml

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
    lock: int | None = None
    """Descriptor of the locked file, held until the run is finished; None in processes that do not write."""

    @classmethod
    def open(
        cls, path: str, settings: Mapping[str, Any], identity: Mapping[str, Any], anyway: bool = False
    ) -> RunFolder | None:
        """Take a folder for a run; None when this very run already finished in it.

        Secrets are taken out first: they reach no file, and another key is not another run.

        Args:
            settings: all of them, written to `config.yaml`.
            identity: what makes the run this run (settings that change weights, data and model fingerprints).
            anyway: take a folder in which another run finished or saved, to train its checkpoint further.

        Raises:
            ConfigError: when another run finished or saved in the folder; nothing in it is changed.
            RefusedError: when another process is writing into it.
        """
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        lock = _lock(folder)
        settings, identity = redact(settings), redact(identity)
        key = _digest(identity)
        before = read_json(folder / "run.json")
        is_finished = bool(before) and read_json(folder / "exit.json").get("code") == 0
        if is_finished and before["identity"] == key:
            os.close(lock)
            return None
        has_state = is_finished or any(folder.glob("checkpoints/checkpoint-*/manifest.json"))
        if before and before["identity"] != key and has_state and not anyway:
            os.close(lock)
            lines = "\n  ".join(differences(before["identity_of"], identity))
            raise ConfigError(
                f"{folder}: another run {'finished' if is_finished else 'has checkpoints'} here; what is different now:"
                f"\n  {lines}\nSet it back, choose another output_dir, or go on from its last checkpoint all the same "
                "with resume=anyway."
            )
        _cut_half_line(folder / "metrics.jsonl")
        (folder / "exit.json").unlink(missing_ok=True)  # a run that is killed leaves none
        run = cls(folder, before.get("attempt", 0) + 1, lock)
        with _disk_may_refuse(folder / "config.yaml", len(json.dumps(settings))):
            write_yaml(folder / "config.yaml", dict(settings))
        record = {
            "attempt": run.attempt,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "command": command(),
            "python": sys.version.split()[0],
            "versions": versions(),
            "git": git_state(),
            "identity": key,
            "identity_of": identity,
        }
        write_json(folder / "run.json", record)
        return run

    def log(self, row: Mapping[str, Any]) -> None:
        """Append one row to `metrics.jsonl`; it is on disk when this returns."""
        line = json.dumps({"attempt": self.attempt, "time": round(time.time(), 3), **row}, ensure_ascii=False)
        data = (line + "\n").encode()
        path = self.path / "metrics.jsonl"
        with path.open("ab", buffering=0) as file, _disk_may_refuse(path, len(data)):
            size = file.tell()
            try:
                if file.write(data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)  # or the next attempt would write on after half a line
                raise

    def finish(self, code: int, message: str) -> None:
        """Record how the run ended."""
        try:
            write_json(self.path / "exit.json", {"code": code, "message": redact(message), "attempt": self.attempt})
        except StorageError as error:
            if code == 0:
                raise
            print(error, file=sys.stderr)  # how the run ended matters more than that it could not be written
        finally:
            if self.lock is not None:
                os.close(self.lock)
                self.lock = None

    @classmethod
    def record_refusal(cls, path: str, code: int, message: str) -> None:
        """Record in `exit.json` that a run ended before it took its folder, unless a finished run or another is in it.

        For launched runs, whose launcher may replace the exit code.
        """
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        lock = _lock(folder)
        if read_json(folder / "exit.json").get("code") == 0:
            os.close(lock)
        else:
            cls(folder, read_json(folder / "run.json").get("attempt", 0), lock).finish(code, message)


def write_json(path: Path, data: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of it."""
    write_text(path, json.dumps(data, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text so that a reader sees the old file or the new one, never half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with _disk_may_refuse(path, len(text.encode())):
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one when there is no such file."""
    if not path.exists():
        return {}
    data = json.loads(path.read_text(encoding="utf-8"))
    return dict(data)


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
    """The command line as it can be typed again, without secrets."""
    module = getattr(sys.modules.get("__main__"), "__spec__", None)
    if module is not None and module.name != "__main__" and not sys.argv[0].endswith("/align"):
        return redact_command(["python", "-m", module.name.removesuffix(".__main__"), *sys.argv[1:]])
    return redact_command([Path(sys.argv[0]).name, *sys.argv[1:]])


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def _digest(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def differences(before: Any, now: Any, name: str = "") -> list[str]:
    """Each leaf in which two JSON values differ, as `name: before → now`."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = sorted({*before, *now})
        return [
            line
            for key in keys
            for line in differences(before.get(key), now.get(key), f"{name}.{key}" if name else str(key))
        ]
    return [] if before == now else [f"{name}: {before} → {now}"]


@contextmanager
def _disk_may_refuse(path: Path, num_bytes: int) -> Iterator[None]:
    """What the disk refuses becomes an error with the number of bytes that were to be written."""
    try:
        yield
    except OSError as error:
        if error.errno not in STORAGE_ERRNOS:
            raise
        free = shutil.disk_usage(path.parent).free
        raise StorageError(
            f"{path}: {error.strerror}: {num_bytes:,} bytes were to be written, {free:,} are free; what was written "
            "before is whole. Free some space and repeat the command."
        ) from error


def _cut_half_line(path: Path) -> None:
    """What a power cut left of a row; the next row must not be written behind it."""
    if path.exists():
        data = path.read_bytes()
        os.truncate(path, data.rfind(b"\n") + 1)


def _lock(folder: Path) -> int:
    """A record lock: gone with its process however that ends, not inherited by children, seen across NFS clients."""
    import fcntl  # not on Windows, where rows can be built all the same

    number = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.lockf(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.read(number, 1000).decode(errors="replace").strip() or "another process"
        os.close(number)
        raise RefusedError(
            f"{folder}: {owner} is writing into this folder; wait for it, or choose another output_dir"
        ) from error
    owner = f"process {os.getpid()} on {socket.gethostname()}\n"
    with _disk_may_refuse(folder / "lock", len(owner)):
        os.ftruncate(number, 0)
        os.write(number, owner.encode())
    return number

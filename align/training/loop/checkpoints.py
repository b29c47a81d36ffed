"""Checkpoints: each is whole or absent.

A checkpoint is a folder `checkpoint-N` with a `manifest.json` that names every file with its size and SHA-256. The
manifest is renamed into place after all files are on disk, so a save that was cut off has none. On start the newest
valid checkpoint is used; a broken one is moved to `quarantine/` and named.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from align.errors import ConfigError, StorageError
from align.store.records import digest, read_json, write_json

if TYPE_CHECKING:
    from align.training.loop.ranks import Ranks

MANIFEST = "manifest.json"
_PREFIX = "checkpoint-"
_NAME = re.compile(r"checkpoint-[0-9]+")
_QUARANTINED = re.compile(r"checkpoint-[0-9]+\.[0-9]+")
_NUM_QUARANTINED = 2
"""Broken checkpoints that are kept to be looked at; older ones are removed, or they would fill the disk."""
_MARGIN = 64 * 2**20
"""Bytes that must stay free beside a checkpoint, for logs, the tokenizer (up to 35 MB) and the manifest."""


@dataclass(frozen=True)
class Checkpoint:
    """A valid checkpoint."""

    path: Path
    step: int
    facts: dict[str, Any]
    """What it was saved with: identity, versions, world size, ZeRO stage."""


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def newest(self) -> Checkpoint | None:
        """The newest valid checkpoint; broken newer ones are moved away and named on the terminal.

        Raises:
            ConfigError: somebody put a file into it that might be loaded in place of what was saved.
        """
        for path in reversed(self._all()):
            fault = _fault(path)
            if fault is None:
                manifest = read_json(path / MANIFEST)
                if added := _added(path, manifest):
                    raise ConfigError(
                        f"{path / added[0]}: is not in {MANIFEST}, and a checkpoint is loaded only as it was saved; "
                        "move it away, and the same command goes on"
                    )
                return Checkpoint(path, _step(path), manifest["facts"])
            print(f"  {path}: {fault}; moved to {self._quarantine(path)}", flush=True)
        return None

    def commit(self, step: int, facts: Mapping[str, Any], ranks: Ranks) -> None:
        """Make a saved folder a checkpoint. Every rank calls this after all of them have written their files.

        Args:
            facts: what must hold for a run that goes on from here.
        """
        path = self.folder / f"{_PREFIX}{step}"
        ranks.gather(None)  # every file is written
        files = _files(path)
        mine = files[ranks.rank :: ranks.world_size]
        with ThreadPoolExecutor() as pool:
            described = dict(zip(mine, pool.map(lambda name: _described(path / name, sync=True), mine), strict=True))
        everything = {name: entry for part in ranks.gather(described) for name, entry in part.items()}
        if ranks.is_first:
            for folder in {path, *(path / name for name in map(os.path.dirname, files))}:
                _sync(folder)
            manifest = {"step": step, "files": dict(sorted(everything.items())), "facts": dict(facts)}
            write_json(path / MANIFEST, {**manifest, "sha256": digest(manifest)})
            _sync(path)
            _sync(self.folder)

    def rotate(self, keep: int | None, best: str | None) -> None:
        """Remove all but the newest `keep` checkpoints and the best one; as in transformers, None, 0 or -1 keep all."""
        for path in self._folders()[: -keep if keep and keep > 0 else 0]:
            if best is None or path.name != Path(best).name:
                _remove(path)

    def check_space(self, num_bytes: int) -> None:
        """Refuse to begin a checkpoint that will not fit; never starts what would be cut off.

        Raises:
            StorageError: with the number of missing bytes.
        """
        needed = max(num_bytes, self._newest_size()) + _MARGIN
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise StorageError(
                f"{self.folder}: a checkpoint needs {needed:,} bytes, {free:,} are free, {needed - free:,} are "
                "missing; the older checkpoints are whole. Free that much and repeat the command."
            )

    def remove_unfinished(self) -> None:
        """Remove folders without a manifest, after a save that failed."""
        for path in self._folders():
            if not (path / MANIFEST).is_file():
                shutil.rmtree(path, ignore_errors=True)

    def _all(self) -> list[Path]:
        found = [path for path in self.folder.glob(f"{_PREFIX}*") if _NAME.fullmatch(path.name)]
        return sorted(found, key=_step)

    def _folders(self) -> list[Path]:
        """Those that may be removed: a link points to what is not ours."""
        return [path for path in self._all() if path.is_dir() and not path.is_symlink()]

    def _quarantine(self, path: Path) -> Path:
        folder = self.folder / "quarantine"
        folder.mkdir(exist_ok=True)
        kept = sorted((p for p in folder.iterdir() if _QUARANTINED.fullmatch(p.name)), key=_number)
        target = folder / f"{path.name}.{1 + (_number(kept[-1]) if kept else 0)}"
        path.rename(target)
        for old in [*kept, target][:-_NUM_QUARANTINED]:
            if old.is_symlink() or not old.is_dir():
                old.unlink()
            else:
                shutil.rmtree(old, ignore_errors=True)
        return target

    def _newest_size(self) -> int:
        done = [path for path in self._folders() if (path / MANIFEST).is_file()]
        return sum(file.stat().st_size for file in done[-1].rglob("*") if file.is_file()) if done else 0


def _step(path: Path) -> int:
    return int(path.name.removeprefix(_PREFIX))


def _number(path: Path) -> int:
    return int(path.suffix[1:])


def _fault(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    if path.is_symlink() or not path.is_dir():
        return "is not a folder"
    if not (path / MANIFEST).is_file():
        return f"has no {MANIFEST}, so its saving was cut off"
    try:
        manifest = read_json(path / MANIFEST)
        listed = {name: (entry["size"], entry["sha256"]) for name, entry in manifest["files"].items()}
        if not isinstance(manifest["facts"], dict) or manifest["step"] != _step(path) or not listed:
            return f"{MANIFEST} is not a manifest of this checkpoint"
    except (ConfigError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} cannot be read ({error})"
    if manifest.pop("sha256", None) != digest(manifest):
        return f"{MANIFEST} was changed after it was written"
    for name, (size, _) in listed.items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} must have {size:,} bytes, has {file.stat().st_size:,}"
    with ThreadPoolExecutor() as pool:
        now = pool.map(lambda name: _described(path / name)["sha256"], listed)
        for (name, (_, expected)), found in zip(listed.items(), now, strict=True):
            if found != expected:
                return f"{name} was changed after it was written (SHA-256)"
    return None


def _remove(path: Path) -> None:
    """Remove a checkpoint; what somebody else put into it stays, under a name that no run takes for its own."""
    try:
        manifest = read_json(path / MANIFEST)
        added = _added(path, manifest) if manifest else []
    except (ConfigError, KeyError, TypeError):
        added = []  # a broken one, of which nobody can tell what was added
    (path / MANIFEST).unlink(missing_ok=True)  # from here on it is absent, however far the rest gets
    if not added:
        shutil.rmtree(path)
        return
    for name in manifest["files"]:
        (path / name).unlink(missing_ok=True)
    kept = path.rename(path.with_name(f"{path.name}.kept"))
    print(f"  {path}: is removed but for {', '.join(added[:3])}, which no run wrote; kept in {kept}", flush=True)


def _added(path: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Files that somebody put into a whole checkpoint; hidden ones, which no library loads, do not count."""
    return [name for name in _files(path) if name not in manifest["files"] and "/." not in f"/{name}"]


def _files(path: Path) -> list[str]:
    """Every file of a checkpoint but its manifest and drafts of it, as relative names in order."""
    names = (str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())
    return sorted(name for name in names if name != MANIFEST and not name.startswith(f".{MANIFEST}"))


def _described(file: Path, sync: bool = False) -> dict[str, Any]:
    content = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(2**22):
            content.update(block)
        if sync:
            os.fsync(stream.fileno())
    return {"size": file.stat().st_size, "sha256": content.hexdigest()}


def _sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)

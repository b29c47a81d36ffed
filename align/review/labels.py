"""Labels: what a person said about pairs, in a file that only grows: `labels.jsonl` in the dataset's folder.

One line a label, on disk before the next pair is shown. A later line about a pair replaces an earlier one, and
`"label": "undo"` takes the last one back, so the file also tells what was changed. A line that a power cut left half
written is cut off when the file is opened for writing, and passed over when it is read.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, get_args

from align.data.rows.pair import PreferencePair, as_dicts
from align.errors import DataError, RefusedError, StorageError
from align.store.lines import append_line, cut_half_line, whole_lines
from align.store.lock import HeldError, Lock

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on

Word = Literal["ok", "wrong", "tie", "skip"]
"""`wrong`: the rejected side is better; `skip`: the person could not say."""
Side = Literal["chosen", "rejected"]


@dataclass(frozen=True, slots=True)
class Label:
    """What a person said about one pair."""

    key: str
    """The pair's, as `pair_key` makes it."""
    label: Word
    time: str
    """When it was given, local time with offset: 2026-11-23T16:54:00+0000."""
    seconds: float
    """Seconds from the pair on the screen to the answer."""
    first: Side
    """The side that was shown as A: a person who prefers A whatever it says can be found out."""


def pair_key(pair: PreferencePair) -> str:
    """SHA-256 (hexadecimal) of the prompt and both sides, in order; `meta` has no part in it."""
    parts = [as_dicts(part) for part in (pair.prompt, pair.chosen, pair.rejected)]
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()


def now() -> str:
    """The time as a label holds it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def read_labels(path: Path) -> dict[str, Label]:
    """Key → label, in the order they were given; empty when there is no file.

    Raises:
        DataError: a line other than a half-written last one is no label.
    """
    return {label.key: label for label in _history(path)}


class LabelFile:
    """The labels of a dataset, open for writing. Use it as `with`; one process at a time can have it open."""

    def __init__(self, path: Path) -> None:
        """Open or make the file.

        Raises:
            DataError: a line is no label.
            RefusedError: another process has it open.
            StorageError: it may not be written.
        """
        self.path = path
        try:
            self._lock = _locked(path)
            with self._lock.released_on_error():
                self.num_cut_bytes = cut_half_line(path)
                """Bytes of a half-written last line that was cut off."""
                self._given = _history(path)
        except PermissionError as error:
            text = f"{path}: must be writable, since labels stay beside the pairs, but: {error.strerror}"
            raise StorageError(f"{text}; copy the dataset to a folder of your own") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    @property
    def labels(self) -> dict[str, Label]:
        """Key → label, in the order they were given."""
        return {label.key: label for label in self._given}

    def add(self, label: Label) -> None:
        """Record a label; it is on disk when this returns."""
        self._append(asdict(label))
        self._given.append(label)

    def undo(self) -> Label | None:
        """Take the last label back, whoever gave it and whenever; None when there is none."""
        if not self._given:
            return None
        self._append({"key": self._given[-1].key, "label": "undo", "time": now()})
        return self._given.pop()

    def _append(self, values: dict[str, object]) -> None:
        assert self._lock.is_held, "another process may have the labels open by now"
        append_line(self.path, values)


def _history(path: Path) -> list[Label]:
    """The labels that stand, in the order they were given."""
    given: list[Label] = []
    for number, line in enumerate(whole_lines(path), start=1):
        try:
            values = json.loads(line)
            if values["label"] == "undo":
                if not given or given.pop().key != values["key"]:
                    raise ValueError("undo of a label that is not the last")
                continue
            given.append(_label(values))
        except (ValueError, TypeError, KeyError) as error:
            text = f"{path}:{number}: a line must be a label, but is {line[:60]!r} ({error})"
            raise DataError(f"{text}; correct the line, or remove it") from error
    return given


def _label(values: dict[str, object]) -> Label:
    label = Label(**values)  # type: ignore[arg-type]  # the next lines look at what matters
    if label.label not in get_args(Word):
        raise ValueError(f"label must be one of {', '.join(get_args(Word))}")
    if not isinstance(label.key, str):
        raise ValueError("key must be text")
    return label


def _locked(path: Path) -> Lock:
    """Beside the labels, in a hidden file: reading the labels must not free it."""
    try:
        return Lock(path.with_name(f".{path.name}.lock"))
    except HeldError as error:
        raise RefusedError(f"{path}: another review of this dataset is open ({error.holder}); quit it first") from error

"""Journal: every outcome of a builder, on disk the moment it is known, so that a rerun asks only what is missing."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from align.data.pair import Dropped, Group, PreferencePair, Prompt

Outcome = PreferencePair | Group | Dropped

_KINDS: dict[str, type[PreferencePair] | type[Group] | type[Dropped]] = {
    "pair": PreferencePair,
    "group": Group,
    "dropped": Dropped,
}


class Journal:
    """An append-only file of outcomes, each under a key of all that shaped it.

    A last line that a kill cut short is overwritten; everything before it is kept.
    """

    def __init__(self, path: Path) -> None:
        self.outcomes: dict[str, Outcome] = {}
        whole = 0
        if path.exists():
            data = path.read_bytes()
            whole = data.rfind(b"\n") + 1
            for line in data[:whole].splitlines():
                entry = json.loads(line)
                self.outcomes[entry["key"]] = _KINDS[entry["kind"]].from_dict(entry["row"])
        self._file: IO[bytes] = path.open("r+b" if path.exists() else "w+b")
        self._file.truncate(whole)
        self._file.seek(whole)

    def add(self, key: str, outcome: Outcome) -> None:
        """Keep an outcome; it is on disk when this returns."""
        kind = next(name for name, row_class in _KINDS.items() if isinstance(outcome, row_class))
        line = json.dumps({"key": key, "kind": kind, "row": outcome.to_dict()}, ensure_ascii=False)
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.outcomes[key] = outcome

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def outcome_key(builder: str, asking: Mapping[str, Any], prompt: Prompt) -> str:
    """Key of a prompt's outcome: the builder, every setting that shapes an answer, and the prompt's messages."""
    text = json.dumps([builder, asking, prompt.key], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()

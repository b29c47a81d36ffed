"""Reference cache: log-probs of completions under one frozen model, kept in the user's cache folder for the next run.

There is one SQLite file for each reference: its files, its arithmetic and the route it was scored by. Within it a
completion is known by its token ids and those of its prompt, so another beta, another loss, a second run or added rows
cost only what is new.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from array import array
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import platformdirs

_NUM_ASKED = 500
"""Keys of one query; SQLite takes 999 at least."""


class ReferenceCache:
    """What is known of one reference. A cache that cannot be read or written is said and does not stop a run."""

    def __init__(self, identity: Mapping[str, Any], folder: Path | None = None) -> None:
        """
        Args:
            identity: whatever changes a digit of a log-prob, as JSON values.
            folder: where the files lie; None: `reference_logps` in the user's cache folder.
        """
        text = json.dumps(identity, sort_keys=True)
        folder = folder or Path(platformdirs.user_cache_dir("align")) / "reference_logps"
        self.path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.sqlite"
        self._identity = text

    def read(self, keys: Iterable[bytes]) -> dict[bytes, array[float]]:
        """Log-probs of each token (float32, nats) of those completions that are known."""
        wanted = list(dict.fromkeys(keys))
        if not self.path.is_file():
            return {}
        found: dict[bytes, array[float]] = {}
        try:
            with closing(sqlite3.connect(self.path)) as database:
                for start in range(0, len(wanted), _NUM_ASKED):
                    part = wanted[start : start + _NUM_ASKED]
                    marks = ",".join("?" * len(part))
                    query = f"SELECT key, logps FROM completions WHERE key IN ({marks})"
                    found |= {key: array("f", logps) for key, logps in database.execute(query, part)}
        except (sqlite3.Error, ValueError) as error:
            print(f"  reference cache: {self.path} cannot be read ({error}); scored anew")
            return {}
        return found

    def write(self, logps: Mapping[bytes, array[float]]) -> None:
        """Keep log-probs; those that are there already are replaced."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path)) as database, database:
                database.execute("CREATE TABLE IF NOT EXISTS completions (key BLOB PRIMARY KEY, logps BLOB NOT NULL)")
                database.execute("CREATE TABLE IF NOT EXISTS reference (identity TEXT PRIMARY KEY)")
                database.execute("INSERT OR REPLACE INTO reference VALUES (?)", (self._identity,))
                rows = ((key, values.tobytes()) for key, values in logps.items())
                database.executemany("INSERT OR REPLACE INTO completions VALUES (?, ?)", rows)
        except (sqlite3.Error, OSError) as error:
            print(f"  reference cache: {self.path} cannot be written ({error}); remove it to have one again")

    def forget(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


def completion_key(prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> bytes:
    """SHA-256 of the token ids, the same on every machine."""
    ids = array("i", [len(prompt_ids), *prompt_ids, *completion_ids])
    return hashlib.sha256(ids.tobytes()).digest()

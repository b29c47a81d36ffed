"""Ledger store: the SQLite file behind a ledger, with one thread that writes and commits in groups.

While one group is on its way to the disk, what comes in meanwhile gathers into the next, so a commit is shared by all
the calls that wait for it.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from align.errors import ConfigError, StorageError

Value = str | int | float | None

VERSION = 1
"""Of the schema (`PRAGMA user_version`)."""
_APPLICATION = 0x616C676E
"""Marks the file as a ledger (`PRAGMA application_id`): "algn"."""

COLUMNS = (
    *("id", "key", "run", "teacher", "model", "body", "sent_at", "currency", "cost", "state", "settled_at", "reason"),
    *("text", "reasoning", "finish_reason", "answered_by", "prompt_tokens", "cached_tokens", "completion_tokens"),
)
"""Of an entry: one request that may have gone out. Money is in billionths of its currency, times are seconds since
1970, `body` is what was asked, as JSON."""
FIXED = COLUMNS[:8]
"""Written when a request is sent, and not changed when it is settled."""

_SCHEMA = f"""
CREATE TABLE teachers (name TEXT PRIMARY KEY, urls TEXT NOT NULL);
CREATE TABLE entries (id INTEGER PRIMARY KEY, {", ".join(COLUMNS[1:])});
CREATE INDEX entries_by_key ON entries (key, state);
CREATE INDEX entries_by_run ON entries (run, currency, state, cost);
"""
_PUT = f"INSERT INTO entries ({', '.join(COLUMNS)}) VALUES %s ON CONFLICT (id) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}" for name in COLUMNS if name not in FIXED
)
_MARKS = f"({', '.join('?' * len(COLUMNS))})"
_GATHER_S = 0.003
"""For which the first row of a group waits for others: less than any network takes, and it halves the commits."""
_ROWS_A_STATEMENT = 256
"""Each statement hands the interpreter's lock over and back, which takes milliseconds while the other thread is busy;
so one statement, which is its own transaction, puts all rows of a group."""


@dataclass(frozen=True, slots=True)
class _Put:
    row: Sequence[Value]
    future: asyncio.Future[None]


class LedgerStore:
    """An open ledger file. Reads happen at once in the caller's thread, writes in groups in one thread."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError if the file is not a ledger, or one of a newer version."""
        self.path = path
        self._reader = connect(path)
        self._writer = connect(path)
        self._waiting: list[_Put] = []
        self._changed = threading.Condition()
        self._is_closing = False
        self._failure: StorageError | None = None
        self._thread = threading.Thread(target=self._work, name=f"ledger {path.name}", daemon=True)
        self._thread.start()

    def read(self, sql: str, *values: Value) -> list[tuple[Value, ...]]:
        """Rows of a query over everything committed so far."""
        return self._reader.execute(sql, values).fetchall()

    def change(self, sql: str, *values: Value) -> None:
        """Anything else, at once, before anything is written through the thread."""
        self._reader.execute(sql, values)

    def put(self, row: Sequence[Value]) -> asyncio.Future[None]:
        """Hand over an entry, new or settled, as `COLUMNS`; the future is done when it is on disk.

        Raises:
            StorageError: (from the future) the disk refused; this group was not written whole.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._changed:
            if self._failure is not None:
                _fail(future, self._failure)
                return future
            self._waiting.append(_Put(row, future))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Write what waits, and end the thread."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join()
        self._writer.close()
        self._reader.close()

    def _work(self) -> None:
        while group := self._next_group():
            self._commit(group)

    def _next_group(self) -> list[_Put]:
        """What has come in since the last commit; empty at the end."""
        with self._changed:
            while not self._waiting and not self._is_closing:
                self._changed.wait()
        if not self._is_closing:
            time.sleep(_GATHER_S)
        with self._changed:
            group, self._waiting = self._waiting, []
        return group

    def _commit(self, group: list[_Put]) -> None:
        database, failure = self._writer, self._failure
        if failure is None:
            try:
                for first in range(0, len(group), _ROWS_A_STATEMENT):
                    rows = [put.row for put in group[first : first + _ROWS_A_STATEMENT]]
                    database.execute(_PUT % ", ".join([_MARKS] * len(rows)), [value for row in rows for value in row])
            except sqlite3.Error as error:
                failure = self._failure = StorageError(
                    f"ledger {self.path}: {error}; what was written before is whole. Free some space and repeat the "
                    "command."
                )
        with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            group[0].future.get_loop().call_soon_threadsafe(_finish, group, failure)


def _finish(group: list[_Put], failure: StorageError | None) -> None:
    for put in group:
        if put.future.done():
            continue
        if failure is None:
            put.future.set_result(None)
        else:
            _fail(put.future, failure)


def _fail(future: asyncio.Future[None], failure: StorageError) -> None:
    future.set_exception(failure)
    future.exception()  # not every change is waited for


def connect(path: Path, is_read_only: bool = False) -> sqlite3.Connection:
    """Open a ledger, and make it if it is not there.

    Raises:
        ConfigError: there is no ledger to read, the file is something else, or of a newer version.
    """
    if is_read_only and not path.exists():
        raise ConfigError(f"ledger {path}: there is no such file")
    mode = "ro" if is_read_only else "rwc"
    address = f"file:{path.absolute().as_posix().replace('%', '%25').replace('?', '%3f').replace('#', '%23')}"
    database = None
    try:
        database = sqlite3.connect(
            f"{address}?mode={mode}", uri=True, timeout=60, isolation_level=None, check_same_thread=False
        )
        _prepare(database, path, is_read_only)
    except (sqlite3.DatabaseError, ConfigError) as error:
        if database is not None:
            database.close()
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"ledger {path}: must be a ledger of align, but cannot be read as one ({error})") from error
    return database


def _prepare(database: sqlite3.Connection, path: Path, is_read_only: bool) -> None:
    if not is_read_only:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
    application, version = (_pragma(database, name) for name in ("application_id", "user_version"))
    is_empty = not database.execute("SELECT 1 FROM sqlite_schema").fetchall()
    if is_empty and not is_read_only:
        database.executescript(
            f"BEGIN; {_SCHEMA} PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {VERSION}; COMMIT;"
        )
    elif application != _APPLICATION:
        raise ConfigError(f"ledger {path}: must be a ledger of align, but is another SQLite database")
    elif version != VERSION:
        raise ConfigError(f"ledger {path}: must be of version {VERSION}, but is of {version}; update align")


def _pragma(database: sqlite3.Connection, name: str) -> int:
    return int(database.execute(f"PRAGMA {name}").fetchone()[0])

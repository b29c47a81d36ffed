"""Ledger store: the SQLite file behind a ledger, with one thread that writes and commits in groups.

While one group is on its way to the disk, what comes in meanwhile gathers into the next, so a commit is shared by all
the calls that wait for it. The order of writing is the order of `write`.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
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

_SCHEMA = """
CREATE TABLE teachers (name TEXT PRIMARY KEY, urls TEXT NOT NULL);
CREATE TABLE requests (key TEXT PRIMARY KEY, teacher TEXT NOT NULL, model TEXT NOT NULL, body TEXT NOT NULL)
    WITHOUT ROWID;
CREATE TABLE entries (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, run TEXT NOT NULL, sent_at REAL NOT NULL,
    currency TEXT NOT NULL, cost INTEGER NOT NULL,
    state TEXT NOT NULL, settled_at REAL, reason TEXT NOT NULL DEFAULT '',
    text TEXT, reasoning TEXT, finish_reason TEXT, model TEXT,
    prompt_tokens INTEGER, cached_tokens INTEGER, completion_tokens INTEGER
);
CREATE INDEX entries_by_key ON entries (key, state);
CREATE INDEX entries_by_run ON entries (run, currency, state, cost);
"""
"""One entry is one request that may have gone out. Money is in billionths of its currency."""


@dataclass(frozen=True, slots=True)
class _Write:
    sql: str
    values: Sequence[Value]
    future: asyncio.Future[None]


class LedgerStore:
    """An open ledger file. Reads happen at once in the caller's thread, writes in groups in one thread."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError if the file is not a ledger, or one of a newer version."""
        self.path = path
        self._reader = connect(path)
        self._waiting: list[_Write] = []
        self._changed = threading.Condition()
        self._is_closing = False
        self._failure: StorageError | None = None
        self._thread = threading.Thread(target=self._work, name=f"ledger {path.name}", daemon=True)
        self._thread.start()

    def read(self, sql: str, *values: Value) -> list[tuple[Value, ...]]:
        """Rows of a query over everything committed so far."""
        return self._reader.execute(sql, values).fetchall()

    def change(self, sql: str, *values: Value) -> None:
        """A change at once, before anything is written through the thread."""
        self._reader.execute(sql, values)

    def write(self, sql: str, *values: Value) -> asyncio.Future[None]:
        """Hand over a change; the future is done when it is on disk.

        Raises:
            StorageError: (from the future) the disk refused; nothing of this group was written.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._changed:
            if self._failure is not None:
                _fail(future, self._failure)
                return future
            self._waiting.append(_Write(sql, values, future))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Write what waits, and end the thread."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join()
        self._reader.close()

    def _work(self) -> None:
        database = connect(self.path)
        try:
            while group := self._next_group():
                self._commit(database, group)
        finally:
            database.close()

    def _next_group(self) -> list[_Write]:
        """What has come in since the last commit; empty at the end."""
        with self._changed:
            while not self._waiting and not self._is_closing:
                self._changed.wait()
            group, self._waiting = self._waiting, []
        return group

    def _commit(self, database: sqlite3.Connection, group: list[_Write]) -> None:
        failure = self._failure
        if failure is None:
            try:
                database.execute("BEGIN IMMEDIATE")
                for write in group:
                    database.execute(write.sql, write.values)
                database.execute("COMMIT")
            except sqlite3.Error as error:
                with suppress(sqlite3.Error):
                    database.execute("ROLLBACK")
                failure = self._failure = StorageError(
                    f"ledger {self.path}: {error}; what was written before is whole. Free some space and repeat the "
                    "command."
                )
        with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            group[0].future.get_loop().call_soon_threadsafe(_finish, group, failure)


def _finish(group: list[_Write], failure: StorageError | None) -> None:
    for write in group:
        if write.future.done():
            continue
        if failure is None:
            write.future.set_result(None)
        else:
            _fail(write.future, failure)


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
    database = sqlite3.connect(
        f"{address}?mode={mode}", uri=True, timeout=60, isolation_level=None, check_same_thread=False
    )
    try:
        _prepare(database, path, is_read_only)
    except sqlite3.DatabaseError as error:
        database.close()
        raise ConfigError(f"ledger {path}: must be a ledger of align, but cannot be read as one ({error})") from error
    except ConfigError:
        database.close()
        raise
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

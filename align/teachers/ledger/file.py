"""Ledger file: who may write into a ledger, and on which disks it may lie.

One process at a time writes: the operating system holds the lock and frees it however the process ends, SIGKILL
included, so nothing waits for a process that is gone. Reading needs no lock.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from pathlib import Path

from align.errors import ConfigError, RefusedError, StorageError

_NETWORK = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "lustre", "beegfs", "gpfs", "glusterfs", "9p", "orangefs"),
    *("fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone", "fuse.juicefs", "fuse.glusterfs", "fuse.cephfs"),
}
"""Kinds of file system that several machines may share. SQLite's write-ahead log needs shared memory, which these do
not have (https://www.sqlite.org/wal.html, "Overview", disadvantage 2)."""


def refuse_network_disk(path: Path, mounts: str | None = None) -> None:
    """`mounts` is the text of `/proc/self/mountinfo`; None reads it, where there is one.

    Raises:
        ConfigError: the file would lie on a network file system.
    """
    table = Path("/proc/self/mountinfo")
    if mounts is None:
        mounts = table.read_text(encoding="utf-8") if table.exists() else ""
    kind = _kind_of_disk(path.absolute(), mounts)
    if kind in _NETWORK:
        raise ConfigError(
            f"ledger {path}: must lie on a disk of this machine, but is on a network file system ({kind}), where "
            "SQLite can lose what it has written; name another file with ledger=/local/disk/ledger.sqlite"
        )


def lock(path: Path) -> sqlite3.Connection:
    """Take the lock beside a ledger, to be given back with `unlock`.

    It is the write lock of a small database, which SQLite holds on every operating system.

    Raises:
        RefusedError: another process, or another part of this one, has it; the message says which.
    """
    # Not `align.store.lock`, whose fcntl Windows lacks: rows can be built there.
    held = sqlite3.connect(
        path.with_name(path.name + ".lock"), timeout=0, isolation_level=None, check_same_thread=False
    )
    try:
        held.execute("BEGIN IMMEDIATE")
        held.execute("CREATE TABLE IF NOT EXISTS owner (text)")
        held.execute("DELETE FROM owner")
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        held.execute(
            "INSERT INTO owner VALUES (?)", (f"process {os.getpid()} on {socket.gethostname()}, since {since},",)
        )
        held.execute("COMMIT")  # so that others can read who it is
        held.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        owner = _owner(held)
        held.close()
        if "locked" not in str(error):
            raise StorageError(
                f"ledger {path}: {error}; free some space or choose another place with ledger="
            ) from error
        raise RefusedError(
            f"ledger {path}: {owner} is writing into it; wait until it has ended, or name another file with ledger="
        ) from error
    return held


def unlock(held: sqlite3.Connection) -> None:
    """Give the lock back."""
    held.close()


def _owner(held: sqlite3.Connection) -> str:
    try:
        found = held.execute("SELECT text FROM owner").fetchone()
    except sqlite3.OperationalError:
        found = None
    return str(found[0]) if found else "another process"


def _kind_of_disk(path: Path, mounts: str) -> str:
    """The file system type of the deepest mount that holds a path (proc(5), mountinfo: field 5 and the first after
    the dash)."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = Path(before.split(" ")[4].replace("\\040", " "))
        if len(point.parts) >= best and (path == point or point in path.parents):
            best, kind = len(point.parts), after.split(" ")[0]
    return kind

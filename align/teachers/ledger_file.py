"""Ledger file: who may write into a ledger, and on which disks it may lie.

One process at a time writes: the operating system holds the lock and frees it however the process ends, SIGKILL
included, so nothing waits for a process that is gone. Reading needs no lock.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from align.errors import ConfigError, RefusedError

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


def lock(path: Path) -> int:
    """Take the lock beside a ledger; the number of the open file, to be closed with `unlock`.

    Raises:
        RefusedError: another process, or another part of this one, has it; the message says which.
    """
    import fcntl  # not on Windows, where a ledger is not supported

    number = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.read(number, 1000).decode(errors="replace").strip() or "another process"
        os.close(number)
        raise RefusedError(
            f"ledger {path}: {owner} is writing into it; wait until it has ended, or name another file with ledger="
        ) from error
    os.ftruncate(number, 0)
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    os.write(number, f"process {os.getpid()} on {socket.gethostname()}, since {since},".encode())
    return number


def unlock(number: int) -> None:
    """Give the lock back."""
    os.close(number)


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

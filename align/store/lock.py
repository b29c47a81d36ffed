"""Lock: one writer at a time, and who it is; the system frees it however a process ends, so none waits for a dead one.

It is a record lock (fcntl(2)) on a file of its own, which stays. Such a lock is seen across NFS clients and is not
inherited by children, so that none of them, left behind by a killed process, keeps it. What it does not do is keep two
parts of one process apart, and it is lost as soon as the process closes the file, whoever in it had opened it: both are
why every lock of the process is remembered here, and why its file is never opened a second time.
"""

from __future__ import annotations

import os
import socket
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from align.errors import RefusedError
from align.store.disk import disk_may_refuse

_HOLDER = "process "
"""Beginning of what stands in the file."""

_File = tuple[int, int]
"""Device and inode."""
_held: set[_File] = set()
"""By this process."""
_taking = threading.Lock()
"""Or two threads could both find that nobody holds it."""


class HeldError(RefusedError):
    """Somebody else has the lock; who takes it says what that means and what to do."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(f"{path}: {holder} holds this lock; wait until it has ended")
        self.holder = holder
        """For example `process 4711 on desk`, or `this process`."""


class Lock:
    """A lock that this process holds: until `release`, until nothing refers to it any more, or until it ends."""

    def __init__(self, path: Path) -> None:
        """Take the lock; the file is made where there is none.

        Raises:
            HeldError: another process, or another part of this one, has it.
            StorageError: the disk has no room for the holder's name.
        """
        import fcntl  # not on Windows, where rows can be built all the same

        holder = f"{_HOLDER}{os.getpid()} on {socket.gethostname()}\n".encode()
        with _taking, disk_may_refuse(path, len(holder)):
            if _is_held_here(path):
                raise HeldError(path, "this process")
            number = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.lockf(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                other = os.read(number, 1000).decode(errors="replace").strip() or "another process"
                os.close(number)
                raise HeldError(path, other) from error
            file = _file(os.fstat(number))
            _held.add(file)
            self._give_back = weakref.finalize(self, _release, number, file)
            with self.released_on_error():
                os.ftruncate(number, 0)
                os.write(number, holder)

    @property
    def is_held(self) -> bool:
        """Whether it was not given back."""
        return self._give_back.alive

    def release(self) -> None:
        """Give it back; doing it twice is once."""
        self._give_back()

    @contextmanager
    def released_on_error(self) -> Iterator[None]:
        """For what is done before somebody else takes care of the lock: where the block raises, it is given back."""
        try:
            yield
        except BaseException:
            self.release()
            raise


def is_lock(path: Path) -> bool:
    """Whether a file holds what the file of a lock holds: a holder's name, or nothing yet."""
    return _is_held_here(path) or path.stat().st_size == 0 or path.read_bytes().startswith(_HOLDER.encode())


def _is_held_here(path: Path) -> bool:
    return path.exists() and _file(path.stat()) in _held


def _release(number: int, file: _File) -> None:
    os.close(number)
    _held.discard(file)


def _file(found: os.stat_result) -> _File:
    return found.st_dev, found.st_ino

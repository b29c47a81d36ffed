"""Whole file: written under another name and put in place at the end, so a reader sees all of it or the one before."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from align.errors import ConfigError, StorageError


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A stream whose bytes stand under `path` once the block ends; where it raises, nothing has changed.

    Missing folders are made, and a link stays a link.

    Raises:
        StorageError: when the disk or the file system refuses.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        todo = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "write to another folder"
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}; {todo} and repeat") from error
    _sync_folder(target.parent)


def must_be_new(path: Path) -> None:
    """For commands whose output never takes the place of anything, be it a file, a folder or a link.

    Raises:
        ConfigError: something stands there.
    """
    if os.path.lexists(path):
        raise ConfigError(f"{path}: is there already; name another file")


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power cut, where the file system can."""
    with contextlib.suppress(OSError):  # the file is in place; some file systems cannot sync a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

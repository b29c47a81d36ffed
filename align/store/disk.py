"""Disk: what it refuses becomes an error that says how much was to be written; new names are made to last."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from align.errors import STORAGE_ERRNOS, StorageError


@contextmanager
def disk_may_refuse(path: Path, num_bytes: int) -> Iterator[None]:
    """What the disk refuses becomes an error with the number of bytes that were to be written.

    Raises:
        StorageError: for `STORAGE_ERRNOS`; every other OSError passes, since another file name may be the answer.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in STORAGE_ERRNOS:
            raise
        free = shutil.disk_usage(path.parent).free
        raise StorageError(
            f"{path}: {error.strerror}: {num_bytes:,} bytes were to be written, {free:,} are free; what was written "
            "before is whole. Free some space and repeat the command."
        ) from error


def sync_folder(folder: Path) -> None:
    """Make a new name survive a power cut, where the file system can."""
    with contextlib.suppress(OSError):  # the file is in place; some file systems cannot sync a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

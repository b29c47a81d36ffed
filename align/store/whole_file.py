"""Whole file: written under another name and put in place at the end, so a reader sees all of it or the one before."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from align.errors import ConfigError, StorageError
from align.store.disk import disk_may_refuse, sync_folder

_LONGEST = 60
"""Characters of a file's name that its draft repeats; with more, a name that the file system takes could give a draft
that it does not (255 bytes, four a character)."""


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A stream whose bytes stand under `path` once the block ends; where it raises, nothing has changed.

    Missing folders are made, and a link stays a link.

    Raises:
        StorageError: when the disk or the file system refuses.
    """
    try:
        Path(os.path.realpath(path)).parent.mkdir(parents=True, exist_ok=True)
        with _draft(path) as stream:
            yield stream
    except OSError as error:
        todo = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "write to another folder"
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}; {todo} and repeat") from error


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file into a folder that is there; a link stays a link.

    Raises:
        StorageError: when the disk refuses, with the number of bytes; nothing has changed.
        OSError: when something else is wrong, as that there is no such folder.
    """
    with disk_may_refuse(path, len(data)), _draft(path) as stream:
        stream.write(data)


def must_be_new(path: Path) -> None:
    """For commands whose output never takes the place of anything, be it a file, a folder or a link.

    Raises:
        ConfigError: something stands there.
    """
    if os.path.lexists(path):
        raise ConfigError(f"{path}: is there already; name another file")


@contextmanager
def _draft(path: Path) -> Iterator[BinaryIO]:
    """A stream into `.NAME.….tmp`, which becomes `path` at the end, or is gone."""
    target = Path(os.path.realpath(path))
    draft = target.with_name(f".{target.name[:_LONGEST]}.{secrets.token_hex(4)}.tmp")
    try:
        with draft.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(target.parent)

"""Lines: files of JSON lines that only grow, such as metrics and labels; a line is there whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from align.store.disk import disk_may_refuse, sync_folder


def append_line(path: Path, values: Mapping[str, Any]) -> None:
    """Write one line behind the others; it is on disk when this returns. The file is made where there is none.

    Raises:
        StorageError: when the disk refuses; the file is as it was before.
    """
    data = (json.dumps(values, ensure_ascii=False) + "\n").encode()
    with disk_may_refuse(path, len(data)), path.open("ab", buffering=0) as file:
        size = file.tell()
        try:
            if file.write(data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
        except OSError:
            file.truncate(size)  # or the next line would stand behind half of this one
            raise
    if size == 0:
        sync_folder(path.parent)


def cut_half_line(path: Path) -> int:
    """Cut off what a power cut left of a last line; returns the number of bytes cut, 0 where there is no file.

    For whoever goes on writing: the next line must not stand behind half of one.

    Raises:
        OSError: the file is there and may not be written.
    """
    if not path.exists():
        return 0
    with path.open("r+b") as file:
        data = file.read()
        num_whole = data.rfind(b"\n") + 1
        if num_whole < len(data):
            file.truncate(num_whole)
    return len(data) - num_whole


def whole_lines(path: Path) -> list[bytes]:
    """The lines without their ends; half a line at the end is passed over, and no file has none."""
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []

"""wandb file: reads the `.wandb` file that an offline run leaves, without a server.

A file is a 7-byte header, then LevelDB log records in blocks of 32 KiB, each a protobuf `Record`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = 32768
FILE_HEADER = 7
RECORD_HEADER = struct.Struct("<IHB")  # checksum, length, and whether it is whole (1), first, middle or last (4)


def history(path: Path) -> list[dict[str, Any]]:
    """Every logged row, in order."""
    return [_items(record.history.item) for record in _parsed(path) if record.HasField("history")]


def config(path: Path) -> dict[str, Any]:
    """The config that the run was started with."""
    found = {}
    for record in _parsed(path):
        for part in (record.run.config, record.config):
            found |= _items(part.update)
    return found


def run(path: Path) -> Any:
    """The record that names the run: `run_id`, `display_name`, `host`."""
    return next(record.run for record in _parsed(path) if record.HasField("run"))


def _items(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def _parsed(path: Path) -> Iterator[Any]:
    from wandb.proto.wandb_internal_pb2 import Record

    for data in _records(path.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        yield record


def _records(data: bytes) -> Iterator[bytes]:
    """Whole records; one that was cut off by a kill ends the file."""
    position, parts = FILE_HEADER, b""
    while position + RECORD_HEADER.size <= len(data):
        rest_of_block = BLOCK - position % BLOCK
        if rest_of_block < RECORD_HEADER.size:
            position += rest_of_block
            continue
        _, length, kind = RECORD_HEADER.unpack_from(data, position)
        position += RECORD_HEADER.size
        if position + length > len(data):
            return
        parts += data[position : position + length]
        position += length
        if kind in (1, 4):
            yield parts
            parts = b""

"""Parquet: the values of a file row by row, what is wrong with a row that has none, and the writer."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from align.data.files.jsonl import json_bytes
from align.data.rows.json_object import json_object
from align.data.rows.message import RowError
from align.errors import DataError


def parquet_values(path: Path, digest: Any) -> Iterator[tuple[int, Any]]:
    """(Row number, columns or the `RowError` that stands for them); the bytes read go into `digest`."""
    import pyarrow
    import pyarrow.parquet

    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
        number = 0
        try:
            file = pyarrow.parquet.ParquetFile(stream, page_checksum_verification=True)
            twice = [name for name, count in Counter(file.schema_arrow.names).items() if count > 1]
            if twice:
                raise DataError(f"{path}: a column must stand in a file once, but {', '.join(twice)} stands twice")
            for batch in file.iter_batches(batch_size=100):
                for value in _python_values(batch):
                    number += 1
                    yield number, value
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            if isinstance(error, OSError) and error.errno:
                raise  # the disk's fault; Arrow's own have no number
            text = f"{path}: must be a parquet file, but is damaged after row {number} or is none"
            raise DataError(f"{text} ({str(error).strip().splitlines()[0]}); write it again") from error


def write_parquet(stream: BinaryIO, rows: Iterator[tuple[int, dict[str, Any]]], path: Path) -> None:
    """Write numbered rows, with `meta` as JSON text; `path` is for errors."""
    import pyarrow
    import pyarrow.parquet

    messages = pyarrow.list_(pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())]))
    types = dict.fromkeys(("prompt", "chosen", "rejected", "completion", "messages"), messages)
    types["score"] = pyarrow.float64()
    types["candidates"] = pyarrow.list_(pyarrow.struct([("messages", messages), ("score", pyarrow.float64())]))
    writer = None
    while batch := [_with_meta_text(row, path, number) for number, row in islice(rows, 1000)]:
        schema = pyarrow.schema([(name, types.get(name, pyarrow.string())) for name in batch[0]])
        writer = writer or pyarrow.parquet.ParquetWriter(stream, schema, write_page_checksum=True)
        writer.write_table(pyarrow.Table.from_pylist(batch, schema=schema))
    if writer is None:
        raise DataError(f"{path}: a parquet file must have a row to know its columns, but there is none; write .jsonl")
    writer.close()


def write_columns(
    stream: BinaryIO, rows: Iterator[tuple[int, dict[str, Any]]], path: Path, columns: Mapping[str, str]
) -> None:
    """Write numbered rows of another library's format; `path` is for errors.

    Args:
        columns: column → `text`, `bool`, `history` (pairs of texts), or `messages`, `turn`, `turns`: role and content,
            or from and value. What the first row has is written; `meta`, as JSON text, may be absent or null.
    """
    import pyarrow
    import pyarrow.parquet

    text = pyarrow.string()
    turn = pyarrow.struct([("from", text), ("value", text)])
    types = {"text": text, "bool": pyarrow.bool_(), "history": pyarrow.list_(pyarrow.list_(text)), "turn": turn}
    types["turns"] = pyarrow.list_(turn)
    types["messages"] = pyarrow.list_(pyarrow.struct([("role", text), ("content", text)]))
    writer = None
    while batch := [row for _, row in islice(rows, 1000)]:
        if writer is None:
            schema = pyarrow.schema(
                [*((one, types[kind]) for one, kind in columns.items() if one in batch[0]), ("meta", text)]
            )
            writer = pyarrow.parquet.ParquetWriter(stream, schema, write_page_checksum=True)
        writer.write_table(pyarrow.Table.from_pylist(batch, schema=schema))
    if writer is None:
        raise DataError(f"{path}: a parquet file must have a row to know its columns, but there is none; write .jsonl")
    writer.close()


def _python_values(batch: Any) -> Iterator[dict[str, Any] | RowError]:
    try:
        values = batch.to_pylist()
    except UnicodeDecodeError as error:  # Arrow does not check the text of a column
        if len(batch) > 1:
            for index in range(len(batch)):
                yield from _python_values(batch.slice(index, 1))
        else:
            yield RowError(f"text must be UTF-8, but is not: {error}", "not_utf8")
        return
    for value in values:
        if "meta" in value:
            value["meta"] = _plain_meta(value["meta"])
        yield value["meta"] if isinstance(value.get("meta"), RowError) else value


def _plain_meta(meta: Any) -> Any:
    """The meta as JSON would give it: from JSON text, or a struct without dates and bytes."""
    if isinstance(meta, str):
        found = json_object(meta)
        return RowError(f"meta: {found}", found.reason) if isinstance(found, RowError) else found
    try:
        json.dumps(meta, allow_nan=False)
    except (TypeError, ValueError) as error:
        return RowError(f"meta must hold what JSON can, but: {error}; write it as text", "wrong_type")
    return meta


def _with_meta_text(row: dict[str, Any], path: Path, number: int) -> dict[str, Any]:
    return {**row, "meta": json_bytes(row["meta"], path, number).decode()} if "meta" in row else row

"""Convert: a file of one format into one of another, row by row; what cannot be carried over is named and counted."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from align.data.files.bad_rows import BadRow, listing
from align.data.files.json_array import write_array
from align.data.files.jsonl import json_bytes, write_jsonl
from align.data.files.parquet import write_columns
from align.data.files.rows import check_name, existing_file
from align.data.files.suffixes import FOREIGN
from align.data.formats.base import Example, Format
from align.data.formats.dataset_info import add_entry, check_entry
from align.data.formats.formats import LLAMA_FACTORY, source_format, target_format
from align.data.rows.labelled import LabelledCompletion, PartnerFinder, as_labelled
from align.data.rows.message import RowError
from align.data.rows.pair import Demonstration, PreferencePair
from align.errors import DataError, StorageError
from align.store.whole_file import must_be_new, whole_file

Numbered = Iterator[tuple[int, Any]]
"""(Line, value or the `RowError` that stands for it)."""


@dataclass(slots=True)
class Conversion:
    """What a conversion did."""

    source: Path
    target: Path
    source_format: str
    target_format: str
    num_read: int = 0
    num_written: int = 0
    kind: type[Example] | None = None
    """Of the rows written; a file has one."""
    bad: list[BadRow] = field(default_factory=list)
    """Rows that were not written, in the order of the lines."""
    entry: Path | None = None
    """The `dataset_info.json` that names the file now."""


def convert(
    source: str | Path, target: str | Path, to: str, given: str | None = None, drop: bool = False
) -> Conversion:
    """Write the rows of a file in another format, in their order.

    A JSON array, JSON lines and parquet are read, whatever the name says of the first two; the target's suffix says
    which is written (`.json` is an array). Each written row is read back and compared, so that none changes in silence.

    Args:
        given: format of the source; None: told from its entry or its columns.
        drop: go on without the rows that cannot be carried over; they are in `bad`.

    Raises:
        ConfigError: when a name is wrong, or the target is there already.
        DataError: when rows cannot be carried over and `drop` is off, or none can; nothing is written then.
        StorageError: when the disk or the file system refuses.
    """
    source, target = existing_file(source, tuple(FOREIGN)), Path(target)
    writer = target_format(to)
    check_name(target, tuple(FOREIGN))
    must_be_new(target)
    if to == LLAMA_FACTORY:
        check_entry(target)
    values, first = _peeked(_values(source), source)
    name, reader = source_format(source, given, first)
    conversion = Conversion(source, target, name, to)
    rows = _written(_adapted(_read(values, reader, conversion), writer, conversion), writer, conversion)
    with whole_file(target) as stream:
        _write(stream, _finished(rows, conversion, drop), conversion, writer)
    if to == LLAMA_FACTORY:
        conversion.entry = add_entry(target, conversion.kind is PreferencePair)
    return conversion


def print_conversion(done: Conversion) -> None:
    """What was read, written and left out, on the terminal."""
    print(f"{done.source} ({done.source_format}): {done.num_read:,} rows read")
    kind = _KINDS[done.kind] if done.kind else "rows"
    print(f"{done.target} ({done.target_format}): {done.num_written:,} {kind} written")
    if done.entry:
        print(f"  {done.entry} names it {done.target.stem}")
    for reason, count in Counter(one.reason for one in done.bad).most_common():
        print(f"  not written {count:>6,}  {reason}")
    for one in done.bad[:_MOST_LISTED]:
        print(f"    {one}")
    if len(done.bad) > _MOST_LISTED:
        print(f"    and {len(done.bad) - _MOST_LISTED:,} more")


def _values(path: Path) -> Numbered:
    digest = hashlib.sha256()
    try:
        yield from FOREIGN[path.suffix](path, digest)
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from error


def _peeked(values: Numbered, path: Path) -> tuple[Numbered, Any]:
    """All values, and the first that is a row."""
    seen: list[tuple[int, Any]] = []
    for one in values:
        seen.append(one)
        if not isinstance(one[1], RowError):
            return itertools.chain(seen, values), one[1]
    if not seen:
        raise DataError(f"{path}: must hold at least one row, but is empty")
    raise DataError(listing([_bad(path, line, error) for line, error in seen], path, 0))


def _read(values: Numbered, reader: Format, conversion: Conversion) -> Numbered:
    """The row of each value."""
    for line, value in values:
        conversion.num_read += 1
        try:
            if isinstance(value, RowError):
                raise value
            yield line, reader.read(value)
        except RowError as error:
            yield line, error


def _adapted(rows: Numbered, writer: Format, conversion: Conversion) -> Numbered:
    """Pairs taken apart, or put together of labelled completions, as the target wants them."""
    wants_labels = LabelledCompletion in writer.kinds
    partners = PartnerFinder()
    for line, row in rows:
        if wants_labels and isinstance(row, PreferencePair):
            yield from ((line, one) for one in as_labelled(row))
        elif not wants_labels and isinstance(row, LabelledCompletion):
            try:
                pair = partners.add(str(line), row)
            except RowError as error:
                yield line, error
            else:
                if pair is not None:
                    yield line, pair
        else:
            yield line, row
    yield from ((int(line), error) for line, error in partners.left())


def _written(rows: Numbered, writer: Format, conversion: Conversion) -> Iterator[tuple[int, dict[str, Any]]]:
    """(Number, columns) of each row that the target can carry; the others go to `bad`."""
    for line, row in rows:
        try:
            if isinstance(row, RowError):
                raise row
            columns = _columns(row, writer, conversion)
        except RowError as error:
            conversion.bad.append(_bad(conversion.source, line, error))
            continue
        conversion.num_written += 1
        yield conversion.num_written, columns


def _columns(row: Example, writer: Format, conversion: Conversion) -> dict[str, Any]:
    if not isinstance(row, writer.kinds):
        kinds = " or ".join(kind.__name__ for kind in writer.kinds)
        raise RowError(f"a row of {writer.name} must be a {kinds}, but is a {type(row).__name__}", "other_kind")
    conversion.kind = conversion.kind or type(row)
    if type(row) is not conversion.kind:
        text = f"rows of a file must be of one kind, but the first is a {conversion.kind.__name__} and this is a"
        raise RowError(f"{text} {type(row).__name__}; split the file", "other_kind")
    columns = writer.write(row)
    if writer.read({**columns, "meta": dict(row.meta)}) != row:
        raise RowError(f"a row of {writer.name} must read back as it was, but would not; choose align", "not_carried")
    if writer.name == "align" and conversion.target.suffix != ".parquet":
        columns["meta"] = dict(row.meta)
    elif row.meta:
        columns["meta"] = json_bytes(dict(row.meta), conversion.target, conversion.num_written + 1).decode()
    return columns


def _finished(rows: Iterator[Any], conversion: Conversion, drop: bool) -> Iterator[Any]:
    """The rows; at their end, an error where rows are left over and may not be."""
    yield from rows
    conversion.bad.sort(key=lambda bad: int(bad.where.rpartition(":")[2]))
    if conversion.bad and (not drop or not conversion.num_written):
        raise DataError(listing(conversion.bad, conversion.source, conversion.num_written, "say --drop"))


def _write(stream: Any, rows: Iterator[Any], conversion: Conversion, writer: Format) -> None:
    target = conversion.target
    if target.suffix == ".parquet":
        write_columns(stream, rows, target, writer.columns)
    else:
        (write_array if target.suffix == ".json" else write_jsonl)(stream, rows, target)


def _bad(path: Path, line: int, error: RowError) -> BadRow:
    return BadRow(f"{path}:{line}", error.reason, str(error))


_KINDS: dict[type[Example], str] = {
    PreferencePair: "pairs",
    Demonstration: "demonstrations",
    LabelledCompletion: "labelled completions",
}
_MOST_LISTED = 10
"""Rows that were not written and are printed one by one."""

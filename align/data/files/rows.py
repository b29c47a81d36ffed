"""Files of rows: JSONL and parquet in, every bad row found in one pass and named `file:line`, and whole files out."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from align.data.files.bad_rows import BadRow, conversion, listing
from align.data.files.jsonl import write_jsonl
from align.data.files.parquet import write_parquet
from align.data.files.suffixes import PROMPTS, ROWS, Source
from align.data.formats.formats import looks_like
from align.data.rows.pair import Demonstration, PairOrGroup, PreferencePair, Prompt, Row, RowError
from align.errors import ConfigError, DataError, StorageError
from align.store.whole_file import whole_file

__all__ = ["SUFFIXES", "BadRow", "RowFile", "checked_rows", "read_prompts", "read_rows", "write_rows"]

R = TypeVar("R", bound=Row)

SUFFIXES = tuple(ROWS)


@dataclass(slots=True)
class RowFile(Generic[R]):
    """What a file holds."""

    path: Path
    rows: list[R] = field(default_factory=list)
    """The good rows, in the file's order."""
    lines: list[int] = field(default_factory=list)
    """Of each good row its line (parquet: its row number), from 1."""
    bad: list[BadRow] = field(default_factory=list)
    fingerprint: str = ""
    """SHA-256 (hexadecimal) of the file's bytes."""


def read_rows(path: str | Path, kind: type[R]) -> RowFile[R]:
    """Read all rows of a `.jsonl` or `.parquet` file. A bad row is kept in `bad` and never ends the reading.

    JSONL: one object a line in UTF-8 (with or without BOM, LF or CRLF); blank lines are skipped. In parquet, `meta`
    may be a struct or the JSON text that `write_rows` makes of it.

    Raises:
        ConfigError: when there is no such file, or its name does not end in one of `SUFFIXES`.
        DataError: when the file as a whole has another form, or holds no row at all.
        StorageError: when the file cannot be read.
    """
    path = existing_file(path, SUFFIXES)
    return _read(
        path,
        kind.from_dict,
        ROWS[path.suffix],
        can_convert=issubclass(kind, PreferencePair | Demonstration | PairOrGroup),
    )


def checked_rows(path: str | Path, kind: type[R], on_bad_rows: Literal["fail", "drop"] = "fail") -> RowFile[R]:
    """Read the rows as `read_rows` does; with `drop`, go on with the good ones (the others stay in `bad`).

    Raises:
        ConfigError, StorageError: as `read_rows`.
        DataError: as `read_rows`; also when a row is bad and `on_bad_rows` is `fail`, or when no row is good.
    """
    file = read_rows(path, kind)
    _refuse_bad(file, on_bad_rows)
    return file


def read_prompts(path: str | Path, on_bad_rows: Literal["fail", "drop"] = "fail") -> list[Prompt]:
    """Read prompts from rows `{"prompt": text or messages, "meta": {...}}`, or from `.txt` with one prompt a line.

    A prompt that stood before (same messages, whatever its `meta`) is a bad row: its answer would be paid for twice.

    Raises:
        ConfigError, DataError, StorageError: as `checked_rows`.
    """
    path = existing_file(path, tuple(PROMPTS))
    file = _read(path, Prompt.from_dict, PROMPTS[path.suffix])
    first: dict[str, tuple[Prompt, int]] = {}
    for prompt, line in zip(file.rows, file.lines, strict=True):
        stood_at = first.setdefault(prompt.key, (prompt, line))[1]
        if stood_at != line:
            text = f"a prompt must stand in the file once, but this one stands at line {stood_at} too; remove one"
            file.bad.append(BadRow(f"{path}:{line}", "duplicate_prompt", text))
    file.rows, file.lines = [prompt for prompt, _ in first.values()], [line for _, line in first.values()]
    file.bad.sort(key=lambda bad: int(bad.where.rpartition(":")[2]))
    _refuse_bad(file, on_bad_rows)
    return file.rows


def write_rows(path: str | Path, rows: Iterable[Row]) -> None:
    """Write rows of one kind as JSONL or parquet, by suffix; the file is whole under its name, or as it was before.

    Missing folders are made. In parquet, `meta` is JSON text, since its names may differ from row to row.

    Raises:
        ConfigError: when the name does not end in one of `SUFFIXES`, or is a folder.
        DataError: when a `meta` holds what JSON cannot, the rows are of several kinds, or a parquet file has none.
        StorageError: when the disk or the file system refuses.
    """
    path = Path(path)
    write = write_parquet if path.suffix == ".parquet" else write_jsonl
    try:
        check_name(path, SUFFIXES)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}; write to another folder") from error
    with whole_file(path) as stream:
        write(stream, _of_one_kind(rows, path), path)


def existing_file(path: str | Path, suffixes: Sequence[str]) -> Path:
    """The path, if there is such a file.

    Raises:
        ConfigError: when there is none, or its name does not end in one of the suffixes.
    """
    path = Path(path)
    try:
        check_name(path, suffixes)
        if path.exists():
            return path
        if not path.parent.is_dir():
            raise ConfigError(f"{path}: must be a file, but there is no folder {path.parent}; correct the path")
        there = sorted(one.name for one in path.parent.iterdir() if one.suffix in suffixes)
    except OSError as error:
        raise ConfigError(f"{path}: must be a file, but cannot be looked up: {error.strerror or error}") from error
    close = difflib.get_close_matches(path.name, there, n=3) or there[:3]
    advice = f"did you mean {' or '.join(close)}?" if close else f"its folder holds no {' or '.join(suffixes)} file"
    raise ConfigError(f"{path}: must be a file, but does not exist; {advice}")


def check_name(path: Path, suffixes: Sequence[str]) -> None:
    """Raise `ConfigError` for a folder, and for a name that does not end in one of the suffixes."""
    if path.is_dir():
        there = sorted(one.name for one in path.iterdir() if one.suffix in suffixes)
        advice = f"name a file in it, such as {', '.join(there[:3])}" if there else "name a file"
        raise ConfigError(f"{path}: must be a file, but is a folder; {advice}")
    if path.suffix not in suffixes:
        text = f"{path}: must end in {' or '.join(suffixes)}, but ends in {path.suffix or 'no suffix'}"
        is_array = path.suffix == ".json" and path.exists()  # as LLaMA-Factory has them
        raise ConfigError(f"{text}; {f'convert it: {conversion(path)}' if is_array else 'rename or convert it'}")


def _read(path: Path, make: Callable[[Mapping[str, Any]], R], source: Source, can_convert: bool = False) -> RowFile[R]:
    file: RowFile[R] = RowFile(path)
    digest = hashlib.sha256()
    try:
        for line, value in source(path, digest):
            try:
                if isinstance(value, RowError):
                    raise value
                file.rows.append(make(value))
                file.lines.append(line)
            except RowError as error:
                foreign = _foreign_format(value) if can_convert else ""
                file.bad.append(BadRow(f"{path}:{line}", error.reason, str(error), foreign))
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not file.rows and not file.bad:
        raise DataError(f"{path}: must hold at least one row, but is empty")
    file.fingerprint = digest.hexdigest()
    return file


def _foreign_format(value: object) -> str:
    """Another library's format that a bad row looks like; empty for our own and for none."""
    found = looks_like(value)
    return "" if "align" in found else " or ".join(found)


def _refuse_bad(file: RowFile[Any], on_bad_rows: str) -> None:
    if not file.rows or (file.bad and on_bad_rows != "drop"):
        raise DataError(listing(file.bad, file.path, len(file.rows)))


def _of_one_kind(rows: Iterable[Row], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(Row number from 1, JSON form)."""
    kind: type[Row] | None = None
    for number, row in enumerate(rows, start=1):
        kind = kind or type(row)
        if type(row) is not kind:
            text = f"{path}: rows of a file must be of one kind, but row 1 is a {kind.__name__} and row {number} is a"
            raise DataError(f"{text} {type(row).__name__}; write them to two files")
        yield number, row.to_dict()

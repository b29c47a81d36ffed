"""Files of rows: JSONL and parquet in, every bad row found in one pass and named `file:line`, and whole files out."""

from __future__ import annotations

import contextlib
import difflib
import errno
import hashlib
import json
import math
import os
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Generic, Literal, NoReturn, TypeVar

from align.data.pair import Prompt, Row, RowError
from align.errors import ConfigError, DataError, StorageError

R = TypeVar("R", bound=Row)

SUFFIXES = (".jsonl", ".parquet")
NUM_LISTED = 20
"""Bad rows that an error lists one by one; the others are counted."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used."""

    where: str
    """`file:line`."""
    reason: str
    """Short slug that bad rows are counted by."""
    detail: str
    """What must hold, what it is instead, what to do."""

    def __str__(self) -> str:
        return f"{self.where}: {self.detail}"


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
    path = _existing_file(path, SUFFIXES)
    return _read(path, kind.from_dict, _parquet_values if path.suffix == ".parquet" else _json_values)


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
    path = _existing_file(path, (*SUFFIXES, ".txt"))
    file = _read(path, Prompt.from_dict, _text_values) if path.suffix == ".txt" else read_rows(path, Prompt)
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
    write = _write_parquet if path.suffix == ".parquet" else _write_jsonl
    target = Path(os.path.realpath(path))  # so that a link stays a link
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        _check_name(path, SUFFIXES)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as stream:
                write(stream, _of_one_kind(rows, path), path)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        todo = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "write to another folder"
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}; {todo} and repeat") from error
    _sync_folder(target.parent)


def _existing_file(path: str | Path, suffixes: Sequence[str]) -> Path:
    path = Path(path)
    try:
        _check_name(path, suffixes)
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


def _check_name(path: Path, suffixes: Sequence[str]) -> None:
    if path.is_dir():
        there = sorted(one.name for one in path.iterdir() if one.suffix in suffixes)
        advice = f"name a file in it, such as {', '.join(there[:3])}" if there else "name a file"
        raise ConfigError(f"{path}: must be a file, but is a folder; {advice}")
    if path.suffix not in suffixes:
        text = f"{path}: must end in {' or '.join(suffixes)}, but ends in {path.suffix or 'no suffix'}"
        raise ConfigError(f"{text}; rename or convert it")


# A source yields (line, value) of each row, the value being a RowError where there is none, and digests the bytes.
Source = Callable[[Path, Any], Iterator[tuple[int, Any]]]


def _read(path: Path, make: Callable[[Mapping[str, Any]], R], source: Source) -> RowFile[R]:
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
                file.bad.append(BadRow(f"{path}:{line}", error.reason, str(error)))
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not file.rows and not file.bad:
        raise DataError(f"{path}: must hold at least one row, but is empty")
    file.fingerprint = digest.hexdigest()
    return file


def _json_values(path: Path, digest: Any) -> Iterator[tuple[int, Any]]:
    is_first = True
    for number, line in _text_lines(path, digest):
        if is_first and isinstance(line, str) and line.lstrip().startswith("["):
            text = f"{path}: must hold one JSON object a line, but is one JSON array"
            raise DataError(f"{text}; convert it: jq -c '.[]' {path} > {path.with_name(path.stem + '-rows.jsonl')}")
        is_first = False
        yield number, _json_object(line) if isinstance(line, str) else line


def _text_values(path: Path, digest: Any) -> Iterator[tuple[int, Any]]:
    for number, line in _text_lines(path, digest):
        if isinstance(line, RowError):
            yield number, line
        elif line.strip():
            yield number, {"prompt": line.strip()}


def _text_lines(path: Path, digest: Any) -> Iterator[tuple[int, str | RowError]]:
    """Each line that is not blank, with its number and its line end."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            digest.update(line)
            if number == 1:
                if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                    text = f"{path}: must be UTF-8, but is UTF-16"
                    output = path.with_name(path.stem + "-utf8" + path.suffix)
                    raise DataError(f"{text}; convert it: iconv -f UTF-16 -t UTF-8 {path} > {output}")
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                yield number, _decoded(line)


def _decoded(line: bytes) -> str | RowError:
    if b"\0" in line:
        text = f"a line must not hold NUL, but does at byte {line.index(0) + 1}"
        return RowError(f"{text}; the file is damaged or not UTF-8: write it again", "nul")
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data" and not line.endswith(b"\n"):
            return RowError("the line ends within a character: the file seems cut off; fetch it again", "cut_off")
        text = f"a line must be UTF-8, but is not at byte {error.start + 1} (0x{line[error.start]:02x})"
    with contextlib.suppress(UnicodeDecodeError):
        line.decode("gb18030")
        text += "; it reads as GB18030: convert the file with iconv -f GB18030 -t UTF-8"
    return RowError(text, "not_utf8")


def _json_object(text: str) -> dict[str, Any] | RowError:
    """The object that the text holds, or what is wrong with it."""
    try:
        value = _DECODER.decode(text)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RowError as error:
        return error
    except json.JSONDecodeError as error:
        fault = f"a row must be JSON, but is broken at column {error.colno} ({error.msg})"
        if text.endswith("\n"):
            return RowError(f"{fault}; correct the line", "not_json")
        return RowError(f"{fault} and has no line end: the file seems cut off; fetch or write it again", "cut_off")
    except UnicodeEncodeError as error:
        half = f"half a character ({error.object[error.start]!a})"
        return RowError(f"text must be whole Unicode, but holds {half}; remove it", "lone_surrogate")
    except RecursionError:
        return RowError("a row must not be nested so deeply; flatten it", "too_deep")
    except ValueError as error:  # an int of more than 4,300 digits
        return RowError(f"a row must be JSON that Python can read, but: {error}", "not_json")
    if isinstance(value, dict):
        return value
    return RowError(f"a row must be a JSON object, but is {text.strip()[:60]}", "not_an_object")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        name = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise RowError(f"a name must stand in an object once, but {name!a} stands twice", "duplicate_key")
    return values


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse_constant(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise RowError(f"a number must be finite, but is {name[:30]}; write null or leave the row out", "not_finite")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_refuse_constant)


def _parquet_values(path: Path, digest: Any) -> Iterator[tuple[int, Any]]:
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
        found = _json_object(meta)
        return RowError(f"meta: {found}", found.reason) if isinstance(found, RowError) else found
    try:
        json.dumps(meta, allow_nan=False)
    except (TypeError, ValueError) as error:
        return RowError(f"meta must hold what JSON can, but: {error}; write it as text", "wrong_type")
    return meta


def _refuse_bad(file: RowFile[Any], on_bad_rows: str) -> None:
    if file.rows and (not file.bad or on_bad_rows == "drop"):
        return
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in Counter(b.reason for b in file.bad).most_common())
    lines = [f"{file.path}: {len(file.bad):,} of {len(file.rows) + len(file.bad):,} rows cannot be used ({reasons})"]
    lines += [f"  {bad}" for bad in file.bad[:NUM_LISTED]]
    if len(file.bad) > NUM_LISTED:
        lines.append(f"  and {len(file.bad) - NUM_LISTED:,} more")
    lines.append(
        f"correct them, or set on_bad_rows: drop to go on with the other {len(file.rows):,}"
        if file.rows
        else "no row is left; correct them"
    )
    raise DataError("\n".join(lines))


def _of_one_kind(rows: Iterable[Row], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(Row number from 1, JSON form)."""
    kind: type[Row] | None = None
    for number, row in enumerate(rows, start=1):
        kind = kind or type(row)
        if type(row) is not kind:
            text = f"{path}: rows of a file must be of one kind, but row 1 is a {kind.__name__} and row {number} is a"
            raise DataError(f"{text} {type(row).__name__}; write them to two files")
        yield number, row.to_dict()


def _write_jsonl(stream: BinaryIO, rows: Iterable[tuple[int, dict[str, Any]]], path: Path) -> None:
    for number, row in rows:
        stream.write(_json_bytes(row, path, number) + b"\n")


def _write_parquet(stream: BinaryIO, rows: Iterator[tuple[int, dict[str, Any]]], path: Path) -> None:
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


def _with_meta_text(row: dict[str, Any], path: Path, number: int) -> dict[str, Any]:
    return {**row, "meta": _json_bytes(row["meta"], path, number).decode()} if "meta" in row else row


def _json_bytes(value: Any, path: Path, number: int) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: row {number} must hold what JSON can, but: {error}; correct its meta") from error


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power cut, where the file system can."""
    with contextlib.suppress(OSError):  # the file is in place; some file systems cannot sync a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

"""Lint of a file: reads rows of any kind, prints the table, and writes what is kept beside what is dropped."""

from __future__ import annotations

import hashlib
import itertools
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from align.data.files.bad_rows import BadRow
from align.data.files.rows import SUFFIXES, RowFile, read_prompts, read_rows, write_rows
from align.data.files.suffixes import ROWS
from align.data.lint.gates import GateSettings
from align.data.lint.report import Finding, LintReport
from align.data.lint.rules import LintSettings, lint_rows
from align.data.rows.instruction import Instruction
from align.data.rows.message import RowError, listed
from align.data.rows.pair import Demonstration, Dropped, Group, PreferencePair, Prompt, Row
from align.data.rows.task import Task
from align.errors import ConfigError, DataError
from align.settings.yaml import read_yaml

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on


def lint_file(
    path: str | Path,
    settings: LintSettings | None = None,
    *,
    write: str | Path | None = None,
    against: Sequence[str | Path] = (),
    instruction: str | Path | None = None,
) -> LintReport:
    """Check a file and print what was found; the file itself is never changed.

    The gates and instructions of a `builder.yaml` beside the file are taken over.

    Args:
        write: where the kept rows go; the others go beside them, as `NAME.dropped.jsonl`.
        against: files whose prompts must not stand in this one: held-out prompts, or a test set of your own.
        instruction: a YAML file with `good` and `bad`, or with `system` and `examples`; another file is a system text.

    Raises:
        ConfigError: when a file is missing, or `write` names one of those that are read.
        DataError: when rows would have to go and `write` is not given, or when no row is left.
        StorageError: when a file cannot be read or written.
    """
    path = Path(path)
    targets = _targets(write, [path, *map(Path, against), *([Path(instruction)] if instruction else [])])
    file = read_rows(path, kind_of(path))
    gates, instructions = _told_by_builder(path.parent / "builder.yaml")
    if instruction is not None:
        instructions = _read_instruction(Path(instruction))
    report = _with_bad_rows(
        lint_rows(
            file.rows,
            settings,
            gates=gates,
            instructions=instructions,
            against={str(other): _prompts_of(Path(other)) for other in against},
            places=[f"{path}:{line}" for line in file.lines],
        ),
        file,
    )
    _print(report, path)
    if targets is not None:
        write_rows(targets[1], report.dropped)
        write_rows(targets[0], report.kept)
        print(f"{targets[0]}: {len(report.kept):,} rows kept; {targets[1]}: {len(report.dropped):,} dropped")
    if not report.kept:
        raise DataError(f"{path}: no row is left")
    if report.dropped and targets is None:
        text = f"{path}: {len(report.dropped):,} of {len(report.kept) + len(report.dropped):,} rows have to go"
        raise DataError(f"{text}; write the others with --write CLEAN{path.suffix}")
    return report


def kind_of(path: Path) -> type[Row]:
    """The kind of row that the first readable line has the columns of; a missing file is left to the reader."""
    if not path.is_file() or path.suffix not in SUFFIXES:
        return PreferencePair
    for _, value in itertools.islice(ROWS[path.suffix](path, hashlib.sha256()), 1000):
        if isinstance(value, RowError):
            continue
        for column, kind in (("chosen", PreferencePair), ("rejected", PreferencePair), ("candidates", Group)):
            if column in value:
                return kind
        if "completion" in value:
            return Demonstration
        return Task if value.keys() - {"prompt", "meta"} and "prompt" in value else Prompt
    return PreferencePair


class _AnyPrompt(Prompt):
    """A prompt in a file of any kind: only that column is looked at."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        if "prompt" not in values:
            text = f"a row must have prompt, but it is missing; there is {listed(values)}"
            raise RowError(f"{text}; rename the column that holds the question", "missing_column")
        return super().from_dict({"prompt": values["prompt"]})


def _prompts_of(path: Path) -> Sequence[Prompt]:
    """Every prompt of the file; one that cannot be read could be the one that leaks, so it is an error."""
    if path.suffix == ".txt":
        return read_prompts(path, "drop")
    file = read_rows(path, _AnyPrompt)
    if file.bad:
        raise DataError(f"{file.bad[0]}\n{path}: {len(file.bad):,} such rows; correct or remove them")
    return file.rows


def _told_by_builder(path: Path) -> tuple[GateSettings, dict[str, Instruction]]:
    """Gates and instructions of the dataset's settings, where there are any."""
    if not path.is_file():
        return GateSettings(), {}
    data = read_yaml(str(path)).data
    gates = _validated(GateSettings, data.get("gates") or {}, f"{path}: gates")
    return gates, _instructions(data, path)


def _read_instruction(path: Path) -> dict[str, Instruction]:
    if not path.is_file():
        raise ConfigError(f"{path}: must be a file with an instruction, but is none; correct the path")
    if path.suffix not in (".yaml", ".yml"):
        return {path.name: Instruction(system=path.read_text(encoding="utf-8"))}
    data = read_yaml(str(path)).data
    if found := _instructions(data, path):
        return found
    return {path.name: _validated(Instruction, data, str(path))}


def _instructions(data: Mapping[str, Any], path: Path) -> dict[str, Instruction]:
    return {name: _validated(Instruction, data[name], f"{path}: {name}") for name in ("good", "bad") if data.get(name)}


def _validated(kind: Any, value: Any, where: str) -> Any:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{where}: {name}: {first['msg']}; correct it") from None


def _targets(write: str | Path | None, inputs: Sequence[Path]) -> tuple[Path, Path] | None:
    """Where kept and dropped rows go; neither may be a file that is read."""
    if write is None:
        return None
    kept = Path(write)
    dropped = kept.with_name(f"{kept.stem}.dropped.jsonl")
    if kept.suffix not in SUFFIXES:
        raise ConfigError(f"--write {kept}: must end in {' or '.join(SUFFIXES)}; rename it")
    for target in (kept, dropped):
        if any(_is_same(target, one) for one in inputs):
            raise ConfigError(f"--write {kept}: would overwrite {target}, which is read; name another file")
    return kept, dropped


def _is_same(target: Path, one: Path) -> bool:
    is_linked = target.exists() and one.exists() and target.samefile(one)
    return is_linked or os.path.realpath(target) == os.path.realpath(one)


def _with_bad_rows(report: LintReport, file: RowFile[Any]) -> LintReport:
    """The rows that could not be read, counted and kept with the others that go, in the file's order."""
    if not file.bad:
        return report
    lines = _lines(file.path, {_line(one) for one in file.bad})
    bad = [Dropped(one.reason, one.detail, {"where": one.where, "text": lines.get(_line(one), "")}) for one in file.bad]
    order = sorted([*bad, *report.dropped], key=lambda one: int(one.meta["where"].rpartition(":")[2]))
    num_all = len(file.rows) + len(bad)
    unreadable = Finding("unreadable", len(bad), num_all, "goes", str(file.bad[0]))
    return LintReport(report.kind, report.kept, order, [unreadable, *report.findings])


def _line(bad: BadRow) -> int:
    return int(bad.where.rpartition(":")[2])


def _lines(path: Path, wanted: set[int]) -> dict[int, str]:
    """Line → its text as it stands in a JSONL file, so that nothing of it is lost."""
    if path.suffix != ".jsonl":
        return {}
    with path.open("rb") as stream:
        numbered = enumerate(stream, start=1)
        return {n: line.rstrip(b"\r\n").decode(errors="backslashreplace") for n, line in numbered if n in wanted}


def _print(report: LintReport, path: Path) -> None:
    num = len(report.kept) + len(report.dropped)
    print(f"{path}: {num:,} rows read as {report.kind}; {len(report.kept):,} stay, {len(report.dropped):,} go")
    if sys.stdout.isatty():
        from rich.console import Console

        Console(highlight=False).print(report.table())
    else:
        print(report.text())

"""Formats: the layouts of preference rows that `align convert` reads and writes, and which of them a row looks like."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from align.data.formats.base import Format
from align.data.formats.dataset_info import FILE_NAME, format_of
from align.errors import ConfigError, DataError
from align.settings import names
from align.settings.dotted import load_object

LLAMA_FACTORY = "llama-factory"
"""ShareGPT rows (read: whatever the entry says) with an entry in `dataset_info.json` beside the file."""

FORMATS: dict[str, Format] = {
    name: load_object(path)() for name, path in names.FORMATS.items() if name != LLAMA_FACTORY
}

NAMES = (*FORMATS, LLAMA_FACTORY)
"""What `--to` and `--from` may be."""


def looks_like(values: object) -> list[str]:
    """Names of the formats whose columns a row has."""
    return [name for name, one in FORMATS.items() if one.fits(values)] if isinstance(values, Mapping) else []


def source_format(path: Path, name: str | None, first: object) -> tuple[str, Format]:
    """The format to read a file with: the named one, else that of its entry or of its first row's columns.

    Raises:
        ConfigError: when there is no such format, or no entry for `llama-factory`.
        DataError: when the columns fit none, or several.
    """
    entry = format_of(path) if name in (None, LLAMA_FACTORY) else None
    if entry is not None:
        return LLAMA_FACTORY, entry
    if name == LLAMA_FACTORY:
        text = f"{path.parent / FILE_NAME}: must have an entry with file_name {path.name}, but has none"
        raise ConfigError(f"{text}; add it, or say --from alpaca or --from sharegpt")
    if name is not None:
        return name, _named(name)
    found = looks_like(first)
    if len(found) == 1:
        return found[0], FORMATS[found[0]]
    columns = ", ".join(map(str, first)) if isinstance(first, Mapping) else "none"
    if found:
        choices = " or ".join(f"--from {one}" for one in found)
        raise DataError(f"{path}: the columns ({columns}) fit {' and '.join(found)}; say which with {choices}")
    known = "".join(f"\n  {one.name}: {one.about}" for one in FORMATS.values())
    raise DataError(f"{path}: the columns ({columns}) fit no format; rename them to those of one:{known}")


def target_format(name: str) -> Format:
    """The format to write.

    Raises:
        ConfigError: when there is none of that name.
    """
    return FORMATS["sharegpt"] if name == LLAMA_FACTORY else _named(name)


def _named(name: str) -> Format:
    if name not in FORMATS:
        raise ConfigError(f"{name} is not a format; there are {', '.join(NAMES)}")
    return FORMATS[name]

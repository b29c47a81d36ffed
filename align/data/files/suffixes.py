"""Suffixes: which reader takes a file, by the end of its name, said once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from align.data.files.json_array import array_values, is_array
from align.data.files.jsonl import json_values, text_values
from align.data.files.parquet import parquet_values

Source = Callable[[Path, Any], Iterator[tuple[int, Any]]]
"""(Line or row number, value) of each row, the value being a `RowError` where there is none; digests the bytes."""


def _lines_or_array(path: Path, digest: Any) -> Iterator[tuple[int, Any]]:
    """JSON lines or one array, whatever the name says."""
    return (array_values if is_array(path) else json_values)(path, digest)


ROWS: dict[str, Source] = {".jsonl": json_values, ".parquet": parquet_values}
"""Rows of align."""
PROMPTS: dict[str, Source] = {**ROWS, ".txt": text_values}
"""Prompts may also be lines of text."""
FOREIGN: dict[str, Source] = {".jsonl": _lines_or_array, ".json": _lines_or_array, ".parquet": parquet_values}
"""Rows of any library, as `align convert` takes them."""

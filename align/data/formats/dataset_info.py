"""Dataset info: the entries by which LLaMA-Factory finds a file and its columns, in `dataset_info.json` beside it.

Names: llamafactory 0.9.5, `data/parser.py` (`DatasetAttr.join`: where an entry has `columns`, a column that it does not
name is absent; else the defaults hold). In words: LLaMA-Factory, `data/README.md`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from align.data.formats.alpaca import AlpacaColumns, AlpacaFormat
from align.data.formats.base import Format
from align.data.formats.sharegpt import ROLES, ShareGptColumns, ShareGptFormat
from align.errors import ConfigError, DataError, StorageError
from align.store.whole_file import whole_file

FILE_NAME = "dataset_info.json"

_TAG_ROLES = {"user_tag": "user", "assistant_tag": "assistant", "observation_tag": "tool", "system_tag": "system"}


def format_of(path: Path) -> Format | None:
    """The format that the entry of this file describes; None when the file has no entry beside it.

    Raises:
        DataError: when `dataset_info.json` is broken, or describes the file twice in different words.
    """
    entries = {
        name: entry
        for name, entry in _entries(path.parent / FILE_NAME).items()
        if isinstance(entry, Mapping) and entry.get("file_name") == path.name
    }
    if not entries:
        return None
    formats = {name: _format(entry, path, name) for name, entry in entries.items()}
    first = next(iter(formats.values()))
    if any(one != first for one in formats.values()):
        text = f"{path.parent / FILE_NAME}: a file must have one description, but {path.name} has {', '.join(entries)}"
        raise DataError(f"{text}; remove one of them, or say --from alpaca or --from sharegpt")
    return first


def check_entry(path: Path) -> None:
    """Raise where `add_entry` would.

    Raises:
        ConfigError: when another file has the entry's name.
        DataError: when `dataset_info.json` is broken.
    """
    info = path.parent / FILE_NAME
    there = _entries(info).get(path.stem)
    file_name = there.get("file_name") if isinstance(there, Mapping) else None
    if there is not None and file_name != path.name:
        text = (
            f"{info}: the entry {path.stem} must be free or of {path.name}, but is of {file_name or 'another source'}"
        )
        raise ConfigError(f"{text}; give the output another name")


def add_entry(path: Path, is_ranked: bool) -> Path:
    """Describe a file of sharegpt rows under its stem; every other entry stays as it is. Returns the changed file."""
    check_entry(path)
    columns = {"messages": "conversations", "system": "system"}
    entry: dict[str, Any] = {"file_name": path.name, "formatting": "sharegpt"}
    if is_ranked:
        entry["ranking"] = True
        columns |= {"chosen": "chosen", "rejected": "rejected"}
    info = path.parent / FILE_NAME
    entries = {**_entries(info), path.stem: {**entry, "columns": columns}}
    with whole_file(info) as stream:
        stream.write((json.dumps(entries, indent=2, ensure_ascii=False) + "\n").encode())
    return info


def _entries(info: Path) -> dict[str, Any]:
    if not info.exists():
        return {}
    try:
        entries = json.loads(info.read_text(encoding="utf-8-sig"))
    except ValueError as error:  # broken JSON or no UTF-8
        raise DataError(f"{info}: must be JSON in UTF-8, but: {error}; correct it") from error
    except OSError as error:
        raise StorageError(f"{info}: cannot be read: {error.strerror or error}") from error
    if not isinstance(entries, dict):
        raise DataError(f"{info}: must be an object with an entry for each dataset, but is a {type(entries).__name__}")
    return entries


def _format(entry: Mapping[str, Any], path: Path, name: str) -> Format:
    where, formatting = f"{path.parent / FILE_NAME}: {name}", entry.get("formatting", "alpaca")
    columns, tags = entry.get("columns"), entry.get("tags") or {}
    if not isinstance(columns, Mapping | None) or not isinstance(tags, Mapping):
        raise DataError(f"{where}: columns and tags must be objects with names, but are not; correct the entry")
    if formatting == "alpaca":
        optional = dict.fromkeys(("history", "system", "chosen", "rejected", "kto_tag"))
        named = {one.name: (columns or {}).get(one.name) for one in fields(AlpacaColumns)}
        return AlpacaFormat(AlpacaColumns(**(optional if columns is None else named)))
    if formatting not in ("sharegpt", "openai"):
        raise DataError(f"{where}: formatting must be alpaca, sharegpt or openai, but is {formatting!r}")
    names = ("messages", "system", "chosen", "rejected", "kto_tag")
    found: dict[str, Any] = {one: (columns or {"messages": "conversations"}).get(one) for one in names}
    keys = {one: tags[one] for one in ("role_tag", "content_tag") if one in tags}
    roles = {**ROLES, **{tags[tag]: role for tag, role in _TAG_ROLES.items() if tags.get(tag)}}
    return ShareGptFormat(ShareGptColumns(**found, **keys, roles=roles))

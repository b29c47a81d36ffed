"""Records: small files that are whole or as before, and what differs between two of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from align.errors import ConfigError
from align.store.whole_file import write_whole


def write_json(path: Path, data: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of it."""
    write_text(path, json.dumps(data, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text so that a reader sees the old file or the new one, never half of it."""
    write_whole(path, text.encode())


def write_yaml(path: Path, data: Any) -> None:
    """Write plain data as YAML, keys in the order given; a reader sees the old file or the new one."""
    from io import StringIO

    from ruamel.yaml import YAML

    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # the stub says None, its first value
    writer.allow_unicode = True
    writer.width = 120
    text = StringIO()
    writer.dump(data, text)
    write_text(path, text.getvalue())


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one when there is no such file.

    Raises:
        ConfigError: the file holds something else, or cannot be read.
    """
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, OSError) as error:
        raise ConfigError(
            f"{path}: must be the record that align wrote there, but cannot be read ({error}); restore it, or move it "
            "away and repeat the command"
        ) from error


def digest(data: Mapping[str, Any]) -> str:
    """SHA-256 of JSON, whatever the order of its names."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def differences(before: Any, now: Any, name: str = "") -> list[str]:
    """Each leaf in which two JSON values differ, as `name: before → now`."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = sorted({*before, *now})
        return [
            line
            for key in keys
            for line in differences(before.get(key), now.get(key), f"{name}.{key}" if name else str(key))
        ]
    return [] if before == now else [f"{name}: {before} → {now}"]

"""Shipped files: the YAML under `recipes/` and `data_builders/`, found in a checkout and in a wheel alike."""

from __future__ import annotations

from pathlib import Path

from align.errors import ConfigError
from align.settings.base import did_you_mean

_KINDS = ("data_builders", "recipes")


def shipped_files() -> dict[str, Path]:
    """`recipes/X.yaml` → where it lies, sorted by name."""
    return {f"{kind}/{path.name}": path for kind in _KINDS for path in sorted((_root() / kind).glob("*.yaml"))}


def shipped_file(name: str) -> Path:
    """One file by its name, with or without folder and suffix.

    Raises:
        ConfigError: when no file, or more than one, has that name.
    """
    files = shipped_files()
    found = [path for full, path in files.items() if name in (full, path.name, path.stem, full.removesuffix(".yaml"))]
    if len(found) != 1:
        problem = "names more than one shipped file" if found else "is not a shipped file"
        raise ConfigError(f"{name} {problem}; there are {', '.join(files)}{did_you_mean(name, list(files))}")
    return found[0]


def _root() -> Path:
    package = Path(__file__).parents[1]
    installed = package / "shipped_yaml"
    return installed if installed.is_dir() else package.parent

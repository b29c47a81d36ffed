"""YAML 1.2 files: values with the line of each, and mistakes explained in words.

YAML 1.2 (https://yaml.org/spec/1.2.2/) reads `5e-6` as a number and `no` as a text; PyYAML, which is 1.1, does the
opposite.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from align.errors import ConfigError

_FULL_WIDTH_KEY = re.compile(r"^\s*(?:- )?([A-Za-z_][\w.]*)\s*：")


@dataclass
class YamlFile:
    """A mapping read from a file, and where each of its values stands."""

    name: str
    data: dict[str, Any]
    lines: dict[tuple[str | int, ...], int] = field(default_factory=dict)
    """Location of a key → line, counted from 1."""
    mistakes: list[tuple[str, str]] = field(default_factory=list)
    """(where, sentence): keys given twice."""

    @classmethod
    def empty(cls) -> YamlFile:
        """No file: everything comes from the command line."""
        return cls("settings", {})

    def where(self, location: tuple[str | int, ...]) -> str:
        """`file:line` of the value at a location, or of the nearest section around it."""
        for length in range(len(location), 0, -1):
            if location[:length] in self.lines:
                return f"{self.name}:{self.lines[location[:length]]}"
        return self.name


def read_yaml(path: str) -> YamlFile:
    """Read a file whose top level is a mapping.

    Raises:
        ConfigError: when the file cannot be read or is not YAML; the message names the line and the usual cause.
    """
    from ruamel.yaml.error import YAMLError

    text = _read_text(path)
    loader = _loader()
    try:
        root = loader.compose(io.StringIO(text))
        data = _loader().load(io.StringIO(text))
    except YAMLError as error:
        raise ConfigError(_explain(path, text, error)) from None
    if data is None:
        return YamlFile(path, {})
    if not isinstance(data, dict):
        line = _full_width_line(text)
        hint = f" Line {line} has a full-width colon '：'; write ': ' instead." if line else ""
        raise ConfigError(f"{path}: must hold settings as `name: value` lines, holds a {type(data).__name__}.{hint}")
    file = YamlFile(path, data)
    _walk(root, (), file)
    return file


def parse_value(text: str) -> Any:
    """The value of a `key=value` word: a YAML scalar, list or mapping on one line.

    Raises:
        ConfigError: when the text is not YAML.
    """
    from ruamel.yaml.error import YAMLError

    try:
        return _loader().load(io.StringIO(text))
    except YAMLError as error:
        raise ConfigError(str(getattr(error, "problem", error))) from None


def _loader() -> Any:
    from ruamel.yaml import YAML

    loader = YAML(typ="safe", pure=True)
    loader.allow_duplicate_keys = True  # the loader would stop at the first one; `_walk` names them all
    return loader


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        folder = Path(path).parent
        others = sorted(other.name for other in folder.glob("*.y*ml")) if folder.is_dir() else []
        listing = f"; {folder} has: {', '.join(others[:12])}" if others else ""
        raise ConfigError(f"{path}: there is no such file{listing}") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: must be a YAML file, is a folder") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: must be UTF-8, byte {error.start} is not; if it is a GBK file: iconv -f GB18030 -t UTF-8"
        ) from None


def _walk(node: Any, location: tuple[str | int, ...], file: YamlFile) -> None:
    """Note the line of every key below a composed node, and every key that stands twice."""
    if node.id == "mapping":
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            here = (*location, key.value)
            if key.value in seen and key.value != "<<":
                name = ".".join(map(str, here))
                file.mistakes.append((f"{file.name}:{line}", f"{name} stands twice, first in line {seen[key.value]}"))
            seen.setdefault(key.value, line)
            file.lines[here] = line
            _walk(value, here, file)
    elif node.id == "sequence":
        for index, item in enumerate(node.value):
            file.lines[(*location, index)] = item.start_mark.line + 1
            _walk(item, (*location, index), file)


def _explain(path: str, text: str, error: Any) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line = mark.line + 1 if mark is not None else 1
    source = text.splitlines()
    full_width = _full_width_line(text)
    if full_width is not None:
        return f"{path}:{full_width}: has a full-width colon '：' after a name; YAML needs ': ' (plain colon, space)"
    shown = source[line - 1] if line <= len(source) else ""
    if "\t" in shown[: len(shown) - len(shown.lstrip())] or "'\\t'" in str(error):
        return f"{path}:{line}: is indented with a tab; YAML allows spaces only"
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{path}:{line}: is not YAML: {problem}; the line is {shown.strip()!r}"


def _full_width_line(text: str) -> int | None:
    for number, line in enumerate(text.splitlines(), 1):
        if _FULL_WIDTH_KEY.match(line):
            return number
    return None

"""Dotted paths: an object of the user's own (a reward, say), named in YAML and made from there."""

from __future__ import annotations

import hashlib
import importlib
import sys
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from align.errors import ConfigError
from align.settings.base import did_you_mean

MOVED = {"align.rewards.verify": "align.rewards.numeric_answer"}
"""Old module → new one, for YAML written before 0.2; can go with 0.2."""


class UseSettings(BaseModel):
    """An object named by its dotted path, with the keyword arguments to make it with."""

    model_config = ConfigDict(extra="allow", strict=True)

    use: str
    """Dotted path, for example `my_package.rewards.is_short`."""

    def load(self) -> Any:
        """The named object: a class is called with the other settings, a function gets them bound.

        Raises:
            ConfigError: when the path cannot be imported or does not take the settings.
        """
        target, arguments = load_object(self.use), self.model_extra or {}
        try:
            if isinstance(target, type):
                return target(**arguments)
        except TypeError as error:
            raise ConfigError(f"use: {self.use} cannot be made with {arguments}: {error}") from error
        return partial(target, **arguments) if arguments else target


def load_object(dotted_path: str) -> Any:
    """Import `package.module.name`.

    Raises:
        ConfigError: when a part does not exist.
    """
    module_name, _, name = dotted_path.rpartition(".")
    if not module_name:
        raise ConfigError(f"use: must be a dotted path such as my_package.my_reward, is {dotted_path!r}")
    if module_name in MOVED:
        module_name = MOVED[module_name]
        print(f"use: {dotted_path} is called {module_name}.{name} now; the old name goes with 0.2", file=sys.stderr)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and not module_name.startswith(error.name):
            raise
        raise ConfigError(
            f"use: {dotted_path}: there is no module {error.name!r}; is its folder installed or on PYTHONPATH?"
        ) from error
    if not hasattr(module, name):
        raise ConfigError(f"use: {module_name} has no {name!r}{did_you_mean(name, dir(module))}")
    return getattr(module, name)


def source_sha256(module_name: str) -> str | None:
    """Fingerprint of the file that a module is written in; None where there is no such file."""
    module = importlib.import_module(MOVED.get(module_name, module_name))
    file = getattr(module, "__file__", None)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else None

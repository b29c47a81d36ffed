"""align: preference data from a teacher, training on it, and proof of whether it helped.

Public names are loaded on first use, so that `import align` costs next to nothing and loads no torch.
"""

from __future__ import annotations

import ast
import importlib
import os
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

# Threads that wait for each other spin by default, and beside one other busy process a step takes 2.7 times as long
# (`benchmarks/busy_core.py`). Read once, when torch is loaded, so it stands before everything that could load it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def _public_names() -> dict[str, str]:
    """Name → module that it is loaded from, as `__init__.pyi` lists them."""
    listed = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in listed.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


_HOMES = _public_names()
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'align' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])

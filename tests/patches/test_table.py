"""The table of patches against the installed libraries.

Where a test fails after an update, read what the library does there now, let our module follow, then the table.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
import pkgutil
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

from align.patches.table import PATCHES

TAKES = sorted({(name, takes) for patch in PATCHES for name, takes in patch.what.items()}, key=str)
OVERRIDDEN = [
    (where, name.rpartition(".")[2], takes)
    for patch in PATCHES
    if patch.how == "overridden"
    for where in patch.where
    for name, takes in patch.what.items()
]


def parameters(function: object) -> str:
    """As the table writes them."""
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return " ".join(stars.get(one.kind, "") + one.name for one in inspect.signature(function).parameters.values())


@functools.cache
def stored(source: str) -> set[str]:
    """Attributes that some code assigns, whatever object they are of, and its own names."""
    nodes = list(ast.walk(ast.parse(textwrap.dedent(source))))
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    return attributes | {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def owner_and_name(dotted: str) -> tuple[object, str]:
    module_name, _, name = dotted.rpartition(".")
    try:
        return pkgutil.resolve_name(module_name), name
    except AttributeError as error:
        raise AssertionError(f"{dotted} is gone") from error


def exists(owner: object, name: str) -> bool:
    """Whether the object has the attribute, or its source or that of its base classes stores one of that name."""
    if hasattr(owner, name):
        return True
    sources = [owner] if isinstance(owner, ModuleType) else [one for one in owner.__mro__ if one is not object]
    return any(name in stored(inspect.getsource(one)) for one in sources)


def reads_variable(module: object, name: str) -> bool:
    return name.isupper() and isinstance(module, ModuleType) and name in Path(module.__file__).read_text("utf-8")


@pytest.mark.parametrize(("dotted", "takes"), TAKES, ids=[name for name, _ in TAKES])
def test_what_is_replaced_or_relied_on_is_as_the_table_says(dotted, takes):
    if "." not in dotted:
        assert dotted.isupper(), "only a variable that no Python module reads has no module"
        return
    if dotted.startswith("langdetect."):
        pytest.importorskip("langdetect", reason="comes with the extra `instructions`, from Python 3.11 on")
    owner, name = owner_and_name(dotted)
    assert exists(owner, name) or reads_variable(owner, name), f"{dotted} is gone"
    if takes is not None:
        assert parameters(getattr(owner, name)) == takes


@pytest.mark.parametrize(("module", "name", "takes"), OVERRIDDEN, ids=lambda value: str(value).rpartition(".")[2])
def test_an_override_takes_what_it_overrides(module, name, takes):
    there = importlib.import_module(module)
    ours = [one for one in vars(there).values() if inspect.isclass(one) and one.__module__ == module]
    found = [vars(one)[name] for one in ours if name in vars(one)]
    assert [parameters(one) for one in found] == [takes]


def test_a_module_that_the_table_names_does_what_it_says():
    for patch in PATCHES:
        for where in patch.where:
            source = Path(importlib.util.find_spec(where).origin).read_text("utf-8")
            assert any(name.rpartition(".")[2] in source for name in patch.what), (where, list(patch.what))

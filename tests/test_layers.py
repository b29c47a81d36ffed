"""Layers: who may import whom (docs/how-it-works.md), and what an import may cost."""

from __future__ import annotations

import ast
import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "align"

FOUNDATION = {"errors", "yaml_file", "installed", "config", "command_line", "dotted", "redact", "records"}
ALLOWED = {
    "errors": set(),
    "redact": set(),
    "yaml_file": {"errors", "records"},
    "installed": {"errors"},
    "config": {"errors", "yaml_file", "installed"},
    "command_line": {"config", "errors", "redact"},
    "dotted": {"config", "errors"},
    "shipped": {"config", "errors"},
    "models": {"errors", "gguf_folder", "scoring"},
    "gguf_folder": {"errors"},
    "scoring": {"errors"},
    "data": {"config", "errors", "yaml_file"},
    "records": {"errors"},
    "runs": {"config", "errors", "records", "redact", "yaml_file"},
    "teachers": {"models", "data", "config", "errors", "redact", "yaml_file"},
    "rewards": {"teachers", "models", "data", "config", "errors"},
    "judges": {"teachers", "models", "evaluation.statistics", "data", "config", "errors"},
    "evaluation": {"judges", "rewards", "teachers", "models", "data", "runs", *FOUNDATION},
    "data_builders": {"judges", "rewards", "teachers", "evaluation.statistics", "data", "runs", *FOUNDATION},
    "training": {"models", "data", "runs", "records", "config", "errors", "redact"},
    "recipes": {"training", "evaluation", "models", "data", "runs", *FOUNDATION},
    "review": {
        "recipes",
        "training",
        "data_builders",
        "evaluation",
        "rewards",
        "teachers",
        "data",
        "runs",
        *FOUNDATION,
    },
}
SUBCLASSES_OF_HEAVY = {"align.models.decoding.cache"}
"""Modules that hold subclasses of transformers' classes; whoever needs them imports them inside a function."""
HEAVY = {"torch", "transformers", "trl", "peft", "deepspeed", "datasets", "wandb"}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem != "cli")


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path, only_top_level: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = _run_on_import(tree) if only_top_level else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "align":
            found |= {f"align.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def _run_on_import(node: ast.AST):
    """Nodes outside functions and outside `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        is_types_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) or is_types_only:
            continue
        yield child
        yield from _run_on_import(child)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_layer_may(path):
    if path == PACKAGE / "__init__.py":
        return
    own = layer(path)
    for name in imported(path):
        if name.startswith("align."):
            target = name.removeprefix("align.")
            allowed = {own, *ALLOWED[own]}
            assert any(target == one or target.startswith(one + ".") for one in allowed), f"{own} imports {target}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_libraries_are_imported_inside_functions(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    found = imported(path, only_top_level=True)
    assert not found & SUBCLASSES_OF_HEAVY
    if layer(path) != "training" and name not in SUBCLASSES_OF_HEAVY:
        assert not {name.split(".")[0] for name in found} & HEAVY


def test_setup_cfg_lists_every_package():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = {name for name in config["options"]["packages"].split() if "shipped_yaml" not in name}
    there = {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")}
    assert listed == there


def test_import_align_loads_nothing_heavy():
    code = f"import sys, align; assert not {HEAVY | {'pydantic', 'numpy'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("given", "found"), [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")], ids=str)
def test_threads_wait_passively_unless_told_otherwise_before_torch_can_be_loaded(given, found):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | given
    code = "import align, os, sys; assert 'torch' not in sys.modules; print(os.environ['OMP_WAIT_POLICY'])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == found


def test_a_recipe_and_a_builder_load_nothing_heavy():
    code = f"import sys; from align import ContrastBuilder, DPORecipe; assert not {HEAVY} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_exists():
    import align

    for name in align.__all__:
        assert getattr(align, name).__module__.startswith("align.")

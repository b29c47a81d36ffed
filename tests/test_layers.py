"""Layers: who may import whom (docs/how-it-works.md), and what an import may cost."""

from __future__ import annotations

import ast
import configparser
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "align"

LEAVES = {"errors", "store", "settings", "text"}
ALLOWED = {
    "errors": set(),
    "statistics": {"errors"},
    "patches": set(),
    "store": {"errors"},
    "text": {"errors"},
    "tree": {"errors"},
    "settings": {"errors", "store"},
    "models": {"tree", "settings", "store", "errors"},
    "data": LEAVES,
}
ALLOWED["teachers"] = {"models", "data", *ALLOWED["models"], *LEAVES}
ALLOWED["rewards"] = {"teachers", *ALLOWED["teachers"]}
ALLOWED["judges"] = {"teachers", "statistics", *ALLOWED["teachers"]}
ALLOWED["evaluation"] = {"judges", "rewards", *ALLOWED["judges"]}
ALLOWED["data_builders"] = {"judges", "rewards", *ALLOWED["judges"]}
ALLOWED["training"] = {"models", "tree", "data", *LEAVES}
ALLOWED["recipes"] = {"training", "evaluation", *ALLOWED["training"], *ALLOWED["evaluation"]}
ALLOWED["review"] = {"data_builders.core", "evaluation", *ALLOWED["evaluation"]}
"""Layer → the others that it may import; `cli` and the package's own list of public names may import all."""
MOST_MODULES = 12
"""In one folder."""
SUBCLASSES_OF_HEAVY = {"align.models.decoding.cache"}
"""Modules that hold subclasses of transformers' classes; whoever needs them imports them inside a function."""
HEAVY = {"torch", "transformers", "trl", "peft", "deepspeed", "datasets", "wandb", "scipy"}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem != "cli")


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(path: Path, only_top_level: bool = False) -> set[str]:
    """Modules that a file imports, wherever in it, those for types included."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = _run_on_import(tree) if only_top_level else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & set(MODULES)) or {node.module}
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


@pytest.mark.parametrize(
    "folder", sorted({path.parent for path in MODULES.values()}), ids=lambda folder: str(folder.relative_to(ROOT))
)
def test_no_circle_among_the_files_and_folders_of_a_folder(folder):
    """Whatever lies deeper counts for the folder that it lies in, so folders have no circle either."""
    package = dotted(folder / "__init__.py")
    edges = {}
    for name, path in MODULES.items():
        if name.startswith(package + ".") and path != PACKAGE / "cli.py":
            here = name.removeprefix(package + ".").split(".")[0]
            there = {one.removeprefix(package + ".").split(".")[0] for one in imported(path) if one.startswith(package)}
            edges.setdefault(here, set()).update(there - {here, package})
    while free := {name for name, targets in edges.items() if not targets & set(edges)}:
        edges = {name: targets for name, targets in edges.items() if name not in free}
    assert not edges, f"circle among {sorted(edges)}"


def test_a_folder_is_one_idea_of_at_most_a_dozen_modules():
    for folder in {path.parent for path in MODULES.values()}:
        names = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("__"))
        assert len(names) <= MOST_MODULES, f"{folder}: {len(names)} modules"
        prefixes = Counter(name.strip("_").split("_")[0] for name in names if "_" in name.strip("_"))
        assert all(count < 3 for count in prefixes.values()), f"{folder}: three files share a prefix: {prefixes}"


def test_an_init_is_empty_but_for_a_sentence():
    for name, path in MODULES.items():
        if path.name == "__init__.py" and name != "align":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            assert ast.get_docstring(tree) and len(tree.body) == 1, path


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_libraries_are_imported_inside_functions(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    found = imported(path, only_top_level=True)
    assert not found & SUBCLASSES_OF_HEAVY
    if layer(path) not in ("training", "tree") and name not in SUBCLASSES_OF_HEAVY:
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


def test_no_public_name_loads_anything_heavy():
    code = f"import sys, align; [getattr(align, name) for name in align.__all__]; assert not {HEAVY} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_exists():
    import align

    for name in align.__all__:
        assert getattr(align, name).__module__.startswith("align.")

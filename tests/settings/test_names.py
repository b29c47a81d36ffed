"""Names: every builder and recipe has one, and it is what starts it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import align
from align.settings.dotted import load_object
from align.settings.names import BUILDERS, RECIPES, module_of

PACKAGE = Path(align.__file__).parent


def classes_with_main(folder: str) -> set[str]:
    """Dotted names of the classes that a file of the folder starts when it is run."""
    found = set()
    for path in (PACKAGE / folder).rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if 'if __name__ == "__main__":' in text or path.name == "__main__.py":
            tree = ast.parse(text)
            name = ast.unparse(tree.body[-1]).rpartition("raise SystemExit(")[2].partition(".main()")[0]
            homes = [node.module for node in tree.body if isinstance(node, ast.ImportFrom) and path.stem == "__main__"]
            own = ".".join(["align", *path.relative_to(PACKAGE).with_suffix("").parts])
            found.add(f"{homes[-1] if homes else own}.{name}")
    return found


@pytest.mark.parametrize(("folder", "named"), [("data_builders", BUILDERS), ("recipes", RECIPES)])
def test_every_class_that_can_be_started_has_a_name(folder, named):
    assert classes_with_main(folder) == set(named.values())


@pytest.mark.parametrize("name", [*BUILDERS, *RECIPES])
def test_the_usage_line_names_the_module_that_starts_it(name, capsys):
    path = {**BUILDERS, **RECIPES}[name]
    folder = "recipes" if name in RECIPES else "data_builders"
    assert module_of(load_object(path)) == f"align.{folder}.{name}"
    assert load_object(path).main(["--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: python -m align.{folder}.{name} FILE.yaml")


def test_a_class_of_somebody_else_is_called_by_its_own_module():
    assert module_of(Path) == Path.__module__


def test_every_builder_and_recipe_is_public():
    assert {path.rpartition(".")[2] for path in [*BUILDERS.values(), *RECIPES.values()]} <= set(align.__all__)

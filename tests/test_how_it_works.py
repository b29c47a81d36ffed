"""How it works: both pages name every folder and only what is there; so do all docs, YAML files and docstrings."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import align
from align.settings.dotted import MOVED
from tests.test_layers import ALLOWED, MODULES, PACKAGE, ROOT

PAGES = [ROOT / "docs" / "how-it-works.md", ROOT / "docs" / "how-it-works.zh-CN.md"]
DOCS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
YAML = sorted([*ROOT.glob("recipes/*.yaml"), *ROOT.glob("data_builders/*.yaml"), *PACKAGE.rglob("*.yaml")])
SOURCES = sorted([*PACKAGE.rglob("*.py"), *ROOT.glob("benchmarks/*.py")])

_PATH = re.compile(r"(?<![\w./-])(?:\.\./)?([\w.-]+(?:/[\w.-]+)+\.py)\b")
_OWN_PATH = re.compile(r"(?<![\w./-])((?:align|tests|benchmarks)(?:/[\w.-]+)+\.(?:py|yaml))\b")
_BESIDE = re.compile(r"`(\w+\.py)`")
_DOTTED = re.compile(r"(?<![\w./-])align(?:\.[A-Za-z_]\w*)+")
_LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
_CODE = re.compile(r"`([^`]+)`")
_EVERY_FILE = "## Every file"


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def is_there(path: str) -> bool:
    """Docs leave `align/` out where it is plain what is meant."""
    return (ROOT / path).is_file() or (PACKAGE / path).is_file()


def is_defined(dotted: str) -> bool:
    """Whether a module of that name is there, or a name at its top level."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        path, rest = MODULES.get(".".join(parts[:length])), parts[length:]
        if path is not None:
            return not rest or rest[0] in _names(path)
    return False


def _names(path: Path) -> set[str]:
    found = set(align.__all__) if path == PACKAGE / "__init__.py" else set()
    for node in ast.parse(text_of(path)).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def tree_of(page: Path) -> list[str]:
    """Folders and files of the page's tree, from top to bottom."""
    return re.findall(r"^    ([a-z_./]+(?:/|\.py)) ", text_of(page), re.MULTILINE)


def table_of(page: Path) -> list[tuple[str, list[str]]]:
    """Each row of the table: what one wants, and what one then opens."""
    rows = text_of(page).partition("|---|---|\n")[2].partition("\n\n")[0].splitlines()
    cells = [row.strip("| ").split(" | ") for row in rows]
    return [(wanted, _CODE.findall(opened)) for wanted, opened in cells]


def every_file() -> str:
    """The last section of the English page: each file with the first sentence of its docstring."""
    lines = [_EVERY_FILE, ""]
    for path in sorted(PACKAGE.rglob("*.py"), key=lambda path: (str(path.parent), path.name)):
        if not path.stem.startswith("__"):
            said = ast.get_docstring(ast.parse(text_of(path)), clean=True) or ""
            sentence = " ".join(said.split("\n\n")[0].split())
            lines.append(f"- `{path.relative_to(PACKAGE)}`: {re.sub(r'^[^:`]{1,30}: ', '', sentence)}")
    return "\n".join(lines) + "\n"


def test_the_english_page_lists_every_file_by_its_first_sentence():
    """`python -m tests.test_how_it_works` writes the list anew."""
    assert text_of(PAGES[0]).partition(_EVERY_FILE)[2] == every_file().removeprefix(_EVERY_FILE)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_tree_names_every_folder_once(page):
    folders = {f"{path.parent.relative_to(PACKAGE)}/" for path in MODULES.values() if path.parent != PACKAGE}
    files = {path.name for path in PACKAGE.glob("*.py") if path.stem != "__init__"}
    assert sorted(tree_of(page)) == sorted(folders | files)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_nothing_imports_from_a_line_above_its_own(page):
    order = [name.rstrip("/").removesuffix(".py").replace("/", ".") for name in tree_of(page)]
    for layer, allowed in ALLOWED.items():
        above = order[: order.index(layer)]
        assert not allowed & set(above), f"{layer} stands below {allowed & set(above)}"


def test_both_pages_have_the_same_tree_the_same_paths_and_the_same_table():
    english, chinese = PAGES
    assert tree_of(english) == tree_of(chinese)
    assert set(_PATH.findall(text_of(english).partition(_EVERY_FILE)[0])) == set(_PATH.findall(text_of(chinese)))
    rows, others = table_of(english), table_of(chinese)
    assert len(rows) >= 20
    assert [sorted(opened) for _, opened in rows] == [sorted(opened) for _, opened in others]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_table_row_opens_something_that_is_there(page):
    for wanted, opened in table_of(page):
        paths = [code for code in opened if re.fullmatch(r"[\w./-]+\.(py|yaml)", code)]
        assert paths, wanted
        assert all(map(is_there, paths)), f"{wanted}: {paths}"


@pytest.mark.parametrize("path", [*DOCS, *YAML], ids=name_of)
def test_docs_and_yaml_name_files_and_modules_that_are_there(path):
    text = text_of(path)
    assert [found for found in _PATH.findall(text) if not is_there(found)] == []
    assert [found for found in _DOTTED.findall(text) if not is_defined(found) and found not in MOVED] == []


@pytest.mark.parametrize("path", DOCS, ids=name_of)
def test_a_link_leads_to_a_file(path):
    assert [found for found in _LINK.findall(text_of(path)) if not (path.parent / found).exists()] == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_docstrings_and_comments_name_files_and_modules_that_are_there(path):
    text = text_of(path)
    assert [found for found in _OWN_PATH.findall(text) if not is_there(found)] == []
    assert [found for found in _DOTTED.findall(text) if not is_defined(found) and found not in MOVED] == []
    beside = [found for found in _BESIDE.findall(text) if not (path.parent / found).is_file()]
    assert beside == [], "a file of another folder is named by its path"


if __name__ == "__main__":
    PAGES[0].write_text(text_of(PAGES[0]).partition(_EVERY_FILE)[0] + every_file(), encoding="utf-8")

"""No patch is left out of the table: a walk over the package for all that reaches into other libraries."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator

import pytest
from transformers import TrainerCallback

from align.patches.table import PATCHES
from tests.test_layers import MODULES

LIBRARIES = {"accelerate", "datasets", "deepspeed", "peft", "torch", "transformers", "trl"}
INSIDE = ("deepspeed.", "transformers.", "trl.")
"""What stands in a module below these is not what they offer to all."""
HOLD_THEIR_OBJECTS = ("align.models", "align.recipes", "align.training", "align.tree")
"""Layers where an object that is assigned to may be of a library."""
ALTERING_CALLS = {
    "add_safe_globals",
    "disable",
    "disable_progress_bar",
    "disable_progress_bars",
    "filterwarnings",
    "register",
    "register_forward_hook",
    "register_forward_pre_hook",
    "remove_callback",
    "set_attn_implementation",
    "set_default_dtype",
    "set_float32_matmul_precision",
    "setLevel",
    "simplefilter",
}
"""Last names of calls that change what others see."""
NO_PATCHES = {
    "align.models.decoding.batch": {"has_ended": "of our own row"},
    "align.models.decoding.thread": {
        **dict.fromkeys(("seconds", "steps", "tokens"), "of our own figures"),
        "register": "Python's atexit",
    },
    "align.rewards.own_teacher": {"_all": "of our own class"},
    "align.store.run_folder": {"_write_record": "of our own class"},
    "align.teachers.endpoint.teacher": {"register": "of our own ledger"},
    "align.training.grpo.reward_functions": {"__name__": "of our own function"},
    "align.training.loop.guard": {
        "can_wait": "of our own request",
        **dict.fromkeys(
            ("should_evaluate", "should_log", "should_save", "should_training_stop"),
            "transformers hands its control to callbacks so that they set it",
        ),
    },
    "align.training.loop.health": {"_batches": "of our own class, in a closure"},
    "align.training.loop.ranks": {"exit_code": "of our own error", "is_shared": "of our own error"},
    "align.training.trackers.isolate": {"setattr": "redacts arguments: in the table beside `report_to`"},
    "align.training.trackers.process": {"_exit": "Python's own", "global_step": "of a state that we made ourselves"},
}
"""Module → what looks like a patch and is none, with the reason."""

TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def listed(module: str) -> set[str]:
    """Dotted names that the table has for a module."""
    return {name for patch in PATCHES if module in patch.where for name in patch.what}


def last_names(module: str) -> set[str]:
    return {name.rpartition(".")[2] for name in listed(module)}


def is_private(name: str) -> bool:
    """DeepSpeed marks what it adds to a weight by `ds_`."""
    return (name.startswith("_") and not name.startswith("__")) or name.startswith("ds_")


def imported_from_others(tree: ast.Module) -> dict[str, str]:
    """Name in the module → what it stands for in another package."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
        elif isinstance(node, ast.Import):
            found |= {one.asname or one.name.split(".")[0]: one.name for one in node.names}
    return {name: dotted for name, dotted in found.items() if dotted.split(".")[0] not in ("align", "__future__")}


def reached(module: str, tree: ast.Module) -> Iterator[str]:
    """Last names of private attributes of others, of what is assigned on others, and of what changes the process."""
    foreign = imported_from_others(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) not in ("self", "cls"):
            may_be_theirs = module.startswith(HOLD_THEIR_OBJECTS) or root(node) in foreign
            if is_private(node.attr) or (may_be_theirs and not isinstance(node.ctx, ast.Load)):
                yield node.attr
        elif isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load) and root(node) in foreign:
            yield ast.literal_eval(node.slice) if ast.unparse(node.value) == "os.environ" else last(node.value)
        elif isinstance(node, ast.Call):
            yield from changed_by(node)


def changed_by(call: ast.Call) -> Iterator[str]:
    """The same for a call."""
    function = ast.unparse(call.func)
    if function in ("os.environ.setdefault", "os.putenv"):
        yield ast.literal_eval(call.args[0])
    elif function in ("getattr", "hasattr", "setattr", "delattr"):
        name = call.args[1].value if isinstance(call.args[1], ast.Constant) else function
        if is_private(name) or function in ("setattr", "delattr"):
            yield name
    elif function.rpartition(".")[2] in ALTERING_CALLS:
        yield function.rpartition(".")[2]


def root(node: ast.AST) -> str | None:
    """`a` of `a.b[c].d`."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else ast.unparse(node)


def test_what_a_module_reaches_in_others_is_in_the_table():
    for module, tree in TREES.items():
        unlisted = set(reached(module, tree)) - last_names(module) - set(NO_PATCHES.get(module, ()))
        assert not unlisted, f"{module} reaches {sorted(unlisted)}; list them in align/patches"


def test_what_a_module_imports_from_inside_a_library_is_in_the_table():
    for module, tree in TREES.items():
        for dotted in imported_from_others(tree).values():
            if dotted.startswith(INSIDE) and dotted.count(".") > 1:
                known = any(f"{name}.".startswith(f"{dotted}.") for name in listed(module))
                assert known, f"{module} imports {dotted}; list it in align/patches"


def subclasses_of_theirs() -> Iterator[tuple[str, ast.ClassDef, list[type]]]:
    """(Module, our class, its base classes in the libraries), but callbacks, which are made to be overridden."""
    for module, tree in TREES.items():
        foreign = {name for name, dotted in imported_from_others(tree).items() if dotted.split(".")[0] in LIBRARIES}
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and any(root(base) in foreign for base in node.bases):
                ours = getattr(importlib.import_module(module), node.name)
                if not issubclass(ours, TrainerCallback):
                    yield module, node, [one for one in ours.__mro__ if one.__module__.split(".")[0] in LIBRARIES]


def test_what_a_subclass_overrides_or_uses_of_its_bases_is_in_the_table():
    seen = set()
    for module, ours, theirs in subclasses_of_theirs():
        seen.add(ours.name)
        methods = {node.name for node in ours.body if isinstance(node, ast.FunctionDef)} - {"__init__"}
        attributes = [node for node in ast.walk(ours) if isinstance(node, ast.Attribute)]
        used = [node for node in attributes if ast.unparse(node.value) == "self"]
        assigned = {node.attr for node in used if isinstance(node.ctx, ast.Store)}
        overridden = {name for name in methods | assigned if any(hasattr(base, name) for base in theirs)}
        private = {node.attr for node in used if is_private(node.attr)} - methods - made_in(ours)
        unlisted = (overridden | private) - last_names(module)
        assert not unlisted, f"{ours.name} shares {sorted(unlisted)} with its bases; list them in align/patches"
    assert seen == {"PreferenceTrainer", "RoomyLayer", "KeyValues"}


def made_in(ours: ast.ClassDef) -> set[str]:
    """Attributes that a class makes: by `=`, since `+=` needs one that is there."""
    targets = [target for node in ast.walk(ours) if isinstance(node, ast.Assign) for target in node.targets]
    nodes = [node for target in targets for node in ast.walk(target)]
    return {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}


def test_what_is_said_to_be_no_patch_is_still_there():
    for module, reasons in NO_PATCHES.items():
        assert set(reasons) <= set(reached(module, TREES[module])), module


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("def f(trainer): return trainer._inner_training_loop", "_inner_training_loop"),
        ("def f(trainer): getattr(trainer, '_metrics', {})", "_metrics"),
        ("def f(model): model.generate = print", "generate"),
        ("def f(model): del model.config.attn", "attn"),
        ("def f(model): setattr(model, 'generate', print)", "generate"),
        ("import trl\ntrl.trainer.utils.pad = print", "pad"),
        ("import trl\ntrl.__table__['x'] = 1", "__table__"),
        ("import os\nos.environ['NCCL_DEBUG'] = 'x'", "NCCL_DEBUG"),
        ("import os\nos.environ.setdefault('NCCL_DEBUG', 'x')", "NCCL_DEBUG"),
        ("import warnings\nwarnings.simplefilter('ignore')", "simplefilter"),
    ],
    ids=lambda value: value.rpartition("\n")[2],
)
def test_the_walk_finds_what_reaches_into_others(code, name):
    assert set(reached("align.training.x", ast.parse(code))) == {name}

"""Installed settings: which arguments a class of an installed library takes, read from its source without importing it.

Reading a dataclass with `ast` takes 0.03 s where importing TRL takes 4 to 7 s, so a misspelt name is found at once.
"""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from align.errors import ConfigError


@dataclass(frozen=True)
class PassThrough:
    """Marks a section of settings that is handed unchanged to a class of another library."""

    library: str
    """The importable package, `trl` for example."""
    class_name: str
    sources: tuple[tuple[str, str, str], ...]
    """(package, file in it, class) for the class and each base class that adds arguments, the class first."""
    also_text: frozenset[str] = frozenset()
    """Arguments that the class itself widens from a list of texts to one text."""
    also_bool: frozenset[str] = frozenset()
    """Arguments that the class itself widens from a text to true or false."""

    def arguments(self) -> dict[str, ast.expr]:
        """Argument name → annotation, base classes included."""
        return _arguments(self.sources)

    def accepts(self, name: str, value: Any) -> bool:
        """Whether a YAML value fits the argument `name`."""
        is_widened = (name in self.also_text and isinstance(value, str)) or (
            name in self.also_bool and isinstance(value, bool)
        )
        return is_widened or accepts(self.arguments()[name], value)


_TRAINING_ARGUMENTS = (
    ("trl", "trainer/base_config.py", "_BaseConfig"),
    ("transformers", "training_args.py", "TrainingArguments"),
)
DPO_CONFIG = PassThrough(
    "trl",
    "DPOConfig",
    (("trl", "trainer/dpo_config.py", "DPOConfig"), *_TRAINING_ARGUMENTS),
    also_text=frozenset({"loss_type"}),
)
GRPO_CONFIG = PassThrough(
    "trl",
    "GRPOConfig",
    (("trl", "trainer/grpo_config.py", "GRPOConfig"), *_TRAINING_ARGUMENTS),
    also_bool=frozenset({"scale_rewards"}),
)
SFT_CONFIG = PassThrough("trl", "SFTConfig", (("trl", "trainer/sft_config.py", "SFTConfig"), *_TRAINING_ARGUMENTS))
LORA_CONFIG = PassThrough(
    "peft",
    "LoraConfig",
    (("peft", "tuners/lora/config.py", "LoraConfig"), ("peft", "config.py", "PeftConfig")),
)


def accepts(annotation: ast.expr, value: Any) -> bool:
    """Whether a YAML value fits an annotation. An annotation that YAML cannot express (an enum, say) accepts all."""
    if isinstance(annotation, ast.Constant):
        if isinstance(annotation.value, str):
            return accepts(ast.parse(annotation.value, mode="eval").body, value)
        return value is annotation.value
    if isinstance(annotation, ast.BinOp):
        return accepts(annotation.left, value) or accepts(annotation.right, value)
    if isinstance(annotation, ast.Subscript):
        return _accepts_subscript(annotation, value)
    name = annotation.id if isinstance(annotation, ast.Name) else ""
    if name in ("int", "float"):
        kinds = (int,) if name == "int" else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool)
    plain = {"bool": bool, "str": str, "dict": dict, "list": list}.get(name)
    return plain is None or isinstance(value, plain)


def _accepts_subscript(annotation: ast.Subscript, value: Any) -> bool:
    name = ast.unparse(annotation.value).rsplit(".", 1)[-1]
    inner = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
    if name == "Optional":
        return value is None or accepts(inner[0], value)
    if name == "Union":
        return any(accepts(part, value) for part in inner)
    if name == "Literal":
        return any(isinstance(part, ast.Constant) and part.value == value for part in inner)
    if name in ("list", "List"):
        return isinstance(value, list) and all(accepts(inner[0], item) for item in value)
    if name in ("dict", "Dict"):
        return isinstance(value, dict)
    return True


@cache
def _arguments(sources: tuple[tuple[str, str, str], ...]) -> dict[str, ast.expr]:
    found: dict[str, ast.expr] = {}
    for package, file, class_name in reversed(sources):
        found |= _own_arguments(_package_folder(package) / file, class_name)
    return found


def _own_arguments(source: Path, class_name: str) -> dict[str, ast.expr]:
    tree = ast.parse(source.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            return {
                item.target.id: item.annotation
                for item in node.body
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
                if not item.target.id.startswith("_")
            }
    raise ConfigError(f"{source}: has no class {class_name}; this version of the library is outside the tested range")


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"the package {package} is not installed; run: pip install {package}")
    return Path(spec.submodule_search_locations[0])

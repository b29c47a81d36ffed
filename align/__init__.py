"""align: preference data from a teacher, training on it, and proof that it helped.

Public names are loaded on first use, so that `import align` costs next to nothing and loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from align.data.lint import LintSettings, lint_rows
    from align.data.lint_report import LintReport
    from align.data.pair import Candidate, Demonstration, Dropped, Group, Message, PreferencePair, Prompt
    from align.data.task import Task
    from align.data_builders.base import DataBuilder
    from align.data_builders.contrast import ContrastBuilder
    from align.data_builders.student import StudentBuilder
    from align.data_builders.sums import SumsBuilder
    from align.evaluation.compare import Comparison
    from align.recipes.base import Recipe
    from align.recipes.dpo import DPORecipe
    from align.recipes.grpo import GRPORecipe
    from align.recipes.sft import SFTRecipe
    from align.teachers.base import Completion, Sampling, Teacher
    from align.teachers.local import LocalTeacher
    from align.teachers.scripted import ScriptedTeacher

_HOMES = {
    "Candidate": "align.data.pair",
    "Comparison": "align.evaluation.compare",
    "Completion": "align.teachers.base",
    "ContrastBuilder": "align.data_builders.contrast",
    "DPORecipe": "align.recipes.dpo",
    "DataBuilder": "align.data_builders.base",
    "Demonstration": "align.data.pair",
    "Dropped": "align.data.pair",
    "GRPORecipe": "align.recipes.grpo",
    "Group": "align.data.pair",
    "LintReport": "align.data.lint_report",
    "LintSettings": "align.data.lint",
    "LocalTeacher": "align.teachers.local",
    "Message": "align.data.pair",
    "PreferencePair": "align.data.pair",
    "Prompt": "align.data.pair",
    "Recipe": "align.recipes.base",
    "SFTRecipe": "align.recipes.sft",
    "Sampling": "align.teachers.base",
    "ScriptedTeacher": "align.teachers.scripted",
    "StudentBuilder": "align.data_builders.student",
    "SumsBuilder": "align.data_builders.sums",
    "Task": "align.data.task",
    "Teacher": "align.teachers.base",
    "lint_rows": "align.data.lint",
}

__all__ = [
    "Candidate",
    "Comparison",
    "Completion",
    "ContrastBuilder",
    "DPORecipe",
    "DataBuilder",
    "Demonstration",
    "Dropped",
    "GRPORecipe",
    "Group",
    "LintReport",
    "LintSettings",
    "LocalTeacher",
    "Message",
    "PreferencePair",
    "Prompt",
    "Recipe",
    "SFTRecipe",
    "Sampling",
    "ScriptedTeacher",
    "StudentBuilder",
    "SumsBuilder",
    "Task",
    "Teacher",
    "lint_rows",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'align' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])

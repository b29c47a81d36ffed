"""align: preference data from a teacher, training on it, and proof that it helped.

Public names are loaded on first use, so that `import align` costs next to nothing and loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from align.data.pair import Candidate, Demonstration, Dropped, Group, Message, PreferencePair, Prompt
    from align.data.task import Task
    from align.data_builders.base import DataBuilder
    from align.data_builders.contrast import ContrastBuilder
    from align.data_builders.student import StudentBuilder
    from align.data_builders.sums import SumsBuilder
    from align.evaluation.compare import Comparison
    from align.evaluation.noise import Noise, Stratum, estimate_noise
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
    "LocalTeacher": "align.teachers.local",
    "Message": "align.data.pair",
    "Noise": "align.evaluation.noise",
    "PreferencePair": "align.data.pair",
    "Prompt": "align.data.pair",
    "Recipe": "align.recipes.base",
    "SFTRecipe": "align.recipes.sft",
    "Sampling": "align.teachers.base",
    "ScriptedTeacher": "align.teachers.scripted",
    "Stratum": "align.evaluation.noise",
    "StudentBuilder": "align.data_builders.student",
    "SumsBuilder": "align.data_builders.sums",
    "Task": "align.data.task",
    "Teacher": "align.teachers.base",
    "estimate_noise": "align.evaluation.noise",
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
    "LocalTeacher",
    "Message",
    "Noise",
    "PreferencePair",
    "Prompt",
    "Recipe",
    "SFTRecipe",
    "Sampling",
    "ScriptedTeacher",
    "Stratum",
    "StudentBuilder",
    "SumsBuilder",
    "Task",
    "Teacher",
    "estimate_noise",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'align' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])

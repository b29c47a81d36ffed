"""align: preference data from a teacher, training on it, and proof of whether it helped.

Public names are loaded on first use, so that `import align` costs next to nothing and loads no torch.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Threads that wait for each other spin by default, and beside one other busy process a step takes 2.7 times as long
# (`benchmarks/busy_core.py`). Read once, when torch is loaded, so it stands before everything that could load it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

if TYPE_CHECKING:
    from align.data.convert import convert
    from align.data.lint.report import LintReport
    from align.data.lint.rules import LintSettings, lint_rows
    from align.data.rows.labelled import LabelledCompletion
    from align.data.rows.pair import Candidate, Demonstration, Dropped, Group, Message, PreferencePair, Prompt
    from align.data.rows.task import Task
    from align.data_builders.best_of import BestOfBuilder
    from align.data_builders.contrast import ContrastBuilder
    from align.data_builders.core.base import DataBuilder
    from align.data_builders.dialogue.builder import DialogueBuilder
    from align.data_builders.reasoning_gym import ReasoningGymBuilder
    from align.data_builders.revise import ReviseBuilder
    from align.data_builders.student import StudentBuilder
    from align.data_builders.sums import SumsBuilder
    from align.data_builders.verified import VerifiedBuilder
    from align.evaluation.comparison import Comparison
    from align.evaluation.noise import Noise, Stratum, estimate_noise
    from align.judges.base import Judge, JudgeError, Verdict
    from align.judges.both_orders import BothOrders, Judgement
    from align.judges.pairwise import PairwiseJudge
    from align.judges.scripted import ScriptedJudge
    from align.judges.trust.calibration import calibrate
    from align.recipes.base import Recipe
    from align.recipes.dpo import DPORecipe
    from align.recipes.grpo import GRPORecipe
    from align.recipes.sft import SFTRecipe
    from align.rewards.form import JsonSchema, Matches
    from align.rewards.instructions import InstructionsFollowed
    from align.rewards.math_answer import MathAnswer
    from align.rewards.reasoning import ReasoningGym
    from align.rewards.rubric import Rubric
    from align.teachers.base import Completion, Sampling, Teacher
    from align.teachers.endpoint.teacher import EndpointTeacher
    from align.teachers.ledger.ledger import Ledger
    from align.teachers.local import LocalTeacher
    from align.teachers.scripted import ScriptedTeacher
    from align.teachers.settings import TeacherSettings
    from align.training.verify.run import Verification, verify

_HOMES = {
    "BestOfBuilder": "align.data_builders.best_of",
    "BothOrders": "align.judges.both_orders",
    "Candidate": "align.data.rows.pair",
    "Comparison": "align.evaluation.comparison",
    "Completion": "align.teachers.base",
    "ContrastBuilder": "align.data_builders.contrast",
    "DPORecipe": "align.recipes.dpo",
    "DataBuilder": "align.data_builders.core.base",
    "Demonstration": "align.data.rows.pair",
    "DialogueBuilder": "align.data_builders.dialogue.builder",
    "Dropped": "align.data.rows.pair",
    "EndpointTeacher": "align.teachers.endpoint.teacher",
    "GRPORecipe": "align.recipes.grpo",
    "Group": "align.data.rows.pair",
    "InstructionsFollowed": "align.rewards.instructions",
    "JsonSchema": "align.rewards.form",
    "Judge": "align.judges.base",
    "JudgeError": "align.judges.base",
    "Judgement": "align.judges.both_orders",
    "LabelledCompletion": "align.data.rows.labelled",
    "Ledger": "align.teachers.ledger.ledger",
    "LintReport": "align.data.lint.report",
    "LintSettings": "align.data.lint.rules",
    "LocalTeacher": "align.teachers.local",
    "Matches": "align.rewards.form",
    "MathAnswer": "align.rewards.math_answer",
    "Message": "align.data.rows.pair",
    "Noise": "align.evaluation.noise",
    "PairwiseJudge": "align.judges.pairwise",
    "PreferencePair": "align.data.rows.pair",
    "Prompt": "align.data.rows.pair",
    "ReasoningGym": "align.rewards.reasoning",
    "ReasoningGymBuilder": "align.data_builders.reasoning_gym",
    "Recipe": "align.recipes.base",
    "ReviseBuilder": "align.data_builders.revise",
    "Rubric": "align.rewards.rubric",
    "SFTRecipe": "align.recipes.sft",
    "Sampling": "align.teachers.base",
    "ScriptedJudge": "align.judges.scripted",
    "ScriptedTeacher": "align.teachers.scripted",
    "Stratum": "align.evaluation.noise",
    "StudentBuilder": "align.data_builders.student",
    "SumsBuilder": "align.data_builders.sums",
    "Task": "align.data.rows.task",
    "Teacher": "align.teachers.base",
    "TeacherSettings": "align.teachers.settings",
    "Verdict": "align.judges.base",
    "Verification": "align.training.verify.run",
    "VerifiedBuilder": "align.data_builders.verified",
    "calibrate": "align.judges.trust.calibration",
    "convert": "align.data.convert",
    "estimate_noise": "align.evaluation.noise",
    "lint_rows": "align.data.lint.rules",
    "verify": "align.training.verify.run",
}

__all__ = [
    "BestOfBuilder",
    "BothOrders",
    "Candidate",
    "Comparison",
    "Completion",
    "ContrastBuilder",
    "DPORecipe",
    "DataBuilder",
    "Demonstration",
    "DialogueBuilder",
    "Dropped",
    "EndpointTeacher",
    "GRPORecipe",
    "Group",
    "InstructionsFollowed",
    "JsonSchema",
    "Judge",
    "JudgeError",
    "Judgement",
    "LabelledCompletion",
    "Ledger",
    "LintReport",
    "LintSettings",
    "LocalTeacher",
    "Matches",
    "MathAnswer",
    "Message",
    "Noise",
    "PairwiseJudge",
    "PreferencePair",
    "Prompt",
    "ReasoningGym",
    "ReasoningGymBuilder",
    "Recipe",
    "ReviseBuilder",
    "Rubric",
    "SFTRecipe",
    "Sampling",
    "ScriptedJudge",
    "ScriptedTeacher",
    "Stratum",
    "StudentBuilder",
    "SumsBuilder",
    "Task",
    "Teacher",
    "TeacherSettings",
    "Verdict",
    "Verification",
    "VerifiedBuilder",
    "calibrate",
    "convert",
    "estimate_noise",
    "lint_rows",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'align' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])

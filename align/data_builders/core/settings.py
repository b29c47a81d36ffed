"""Builder settings: what every dataset file under `data_builders/` may say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PlainValidator, WithJsonSchema, model_validator

from align.data.lint.gates import GateSettings
from align.data.lint.rules import LintSettings
from align.judges.settings import JudgeSettings
from align.settings.base import Settings
from align.settings.dotted import UseSettings
from align.text.shorten import shorten


def _check_source(value: Any) -> Any:
    topics = value.values() if isinstance(value, dict) else [value]
    for questions in topics:
        if isinstance(questions, list) and questions and all(isinstance(q, str) and q.strip() for q in questions):
            continue
        if isinstance(value, str) and value.strip():
            continue
        raise ValueError(
            "must be a file (.jsonl or .txt), a list of questions, or topics with a list of questions each; "
            f"is {shorten(str(value), 80)!r}"
        )
    return value


PromptSource = Annotated[Any, PlainValidator(_check_source), WithJsonSchema({})]
"""A file name, a list of questions, or topic → list of questions."""


class Check(UseSettings):
    """A reward that one side of a pair must meet; exactly one bound is given."""

    at_least: float | None = None
    """The lowest score that passes."""
    at_most: float | None = None
    """The highest score that passes."""

    @model_validator(mode="after")
    def _has_one_bound(self) -> Check:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("exactly one of at_least and at_most must be given")
        return self

    def passes(self, score: float) -> bool:
        """Whether a score is within the bound."""
        return score >= self.at_least if self.at_least is not None else score <= (self.at_most or 0.0)


class ChecksSettings(Settings):
    """Rewards that a side must meet, or the pair is dropped."""

    chosen: list[Check] = []  # noqa: RUF012  # pydantic copies defaults
    """Checks on the chosen side."""
    rejected: list[Check] = []  # noqa: RUF012
    """Checks on the rejected side."""


class BuilderSettings(Settings):
    """Settings that every builder has."""

    prompts: PromptSource
    """Questions to train on: a file, a list, or topics with a list each."""
    heldout: PromptSource | None = None
    """Questions kept away from training, for the comparison; none may stand in `prompts`."""
    output_dir: str
    """Folder of the dataset."""
    gates: GateSettings = GateSettings()
    """What makes a pair useless whatever it says."""
    checks: ChecksSettings = ChecksSettings()
    """Rewards that a side must meet."""
    lint: LintSettings = LintSettings()
    """What makes a row useless beside the others: copies, near-copies, leaks, sides that are too alike."""
    judge: JudgeSettings | None = None
    """Who has to prefer the chosen side, or the pair is dropped; asked in both orders, after the gates and checks."""
    concurrency: int = Field(default=256, ge=1)
    """Prompts that are worked on at once; how many calls a teacher takes at once is a setting of the teacher."""
    ledger: str | None = None
    """File in which every answer is kept, so that none is asked or bought twice; default: `ledger.sqlite` beside
    `output_dir`, so that datasets that stand side by side share their answers."""
    budget: float | None = Field(default=None, gt=0)
    """Most that this dataset may cost, in the currency of its teachers (`prices.yaml`); reached: exit code 5."""
    ask_failed_again: bool = False
    """Ask calls anew that the teacher has turned down for good, such as a refused prompt."""

    @property
    def ledger_path(self) -> Path:
        """Where the ledger lies."""
        return Path(self.ledger) if self.ledger else Path(self.output_dir).parent / "ledger.sqlite"

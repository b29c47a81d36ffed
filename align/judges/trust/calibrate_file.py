"""Calibrate file: what `align judge` does, a file of human labels in, a calibration out.

align judge labels.jsonl teacher.model=embedded:smollm2-135m criteria="Which answer is more accurate?"
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from pydantic import Field

from align.data.files.rows import checked_rows
from align.data.rows.pair import PreferencePair
from align.judges.settings import JudgeSettings
from align.judges.trust.calibration import Calibration, calibrate
from align.judges.trust.injections import InjectionReport, injection_flip_rate
from align.judges.trust.payloads import PAYLOADS
from align.judges.verdict_text import VERDICT_SCHEMA
from align.teachers.ledger.budget import Budget
from align.teachers.ledger.ledger import Ledger


class CalibrationSettings(JudgeSettings):
    """Settings of `align judge`: those of the judge, and how it is asked."""

    ledger: str | None = None
    """File in which every verdict is kept, so that none is bought twice; default: `ledger.sqlite` beside the labels."""
    budget: float | None = Field(default=None, gt=0)
    """Most that this may cost, in the currency of the teacher (`prices.yaml`); reached: exit code 5."""
    concurrency: int = Field(default=32, ge=1)
    """Pairs that are judged at once."""
    injection_pairs: int = Field(default=10, ge=1)
    """With `--injections`: how many pairs, from the first on, each payload is tried on."""


def judge_file(
    file: Path, settings: CalibrationSettings, with_injections: bool = False
) -> tuple[Calibration, InjectionReport | None]:
    """Calibrate a judge on a file of labelled pairs, and print what was found."""
    pairs = checked_rows(file, PreferencePair).rows
    return asyncio.run(_judge_pairs(pairs, file, settings, with_injections))


async def _judge_pairs(
    pairs: list[PreferencePair], file: Path, settings: CalibrationSettings, with_injections: bool
) -> tuple[Calibration, InjectionReport | None]:
    path = Path(settings.ledger) if settings.ledger else file.parent / "ledger.sqlite"
    async with Ledger.open(path, f"judge {file}", Budget(settings.budget)) as ledger:
        teacher = settings.teacher.make(ledger, VERDICT_SCHEMA)
        try:
            judge = settings.make(teacher)
            calibration = await calibrate(judge, pairs, settings.concurrency)
            print(calibration, flush=True)
            if not with_injections:
                return calibration, None
            few = pairs[: settings.injection_pairs]
            report = await injection_flip_rate(judge, few, PAYLOADS, settings.concurrency)
            print(report)
            return calibration, report
        finally:
            await teacher.aclose()

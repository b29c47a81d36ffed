"""Ledger report: what was spent, on what, and what is not known; reading only, also while a run is writing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.teachers.ledger_store import connect

_LINES = """
SELECT run, model, date(sent_at, 'unixepoch', 'localtime') AS day, currency,
    sum(state = 'answered'), sum(state = 'failed'), sum(state = 'refused'),
    sum(state IN ('unknown', 'sent')),
    coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0),
    sum(cost), sum(iif(state IN ('unknown', 'sent'), cost, 0))
FROM entries GROUP BY 1, 2, 3, 4 ORDER BY 3, 1, 2, 4
"""
_UNKNOWN = """
SELECT sent_at, run, teacher, model, reason, cost, currency,
    body
FROM entries WHERE state IN ('unknown', 'sent') ORDER BY id
"""
_ANSWERS = """
SELECT teacher, model, body, state, reason, text, reasoning,
    finish_reason, answered_by, prompt_tokens, cached_tokens, completion_tokens,
    cost, currency, run, sent_at, key
FROM entries WHERE state IN ('answered', 'failed') ORDER BY id
"""


@dataclass(frozen=True, slots=True)
class Spending:
    """What one run spent on one model on one day (local time), in one currency."""

    run: str
    model: str
    day: str
    currency: str
    num_answered: int
    num_failed: int
    num_refused: int
    num_unknown: int
    """Of a run that is going on: with the requests under way."""
    prompt_tokens: int
    completion_tokens: int
    cost: int
    """In billionths of the currency, unknown outcomes included."""
    cost_of_unknown: int
    """The part of `cost` that may not have been charged."""


@dataclass(frozen=True, slots=True)
class UnknownOutcome:
    """A request that may have been answered and paid for."""

    sent_at: float
    """Seconds since 1970."""
    run: str
    teacher: str
    model: str
    reason: str
    cost: int
    currency: str
    body: dict[str, Any]


def spending(path: str | Path) -> list[Spending]:
    """One line for each run, model and day."""
    return [Spending(*row) for row in _rows(path, _LINES)]


def unknown_outcomes(path: str | Path) -> list[UnknownOutcome]:
    """All of them, oldest first."""
    return [UnknownOutcome(*(*facts, json.loads(body))) for *facts, body in _rows(path, _UNKNOWN)]


def export(path: str | Path, target: str | Path) -> int:
    """Write every recorded answer and failed call as a line of JSON; returns how many."""
    num_rows = 0
    with Path(target).open("w", encoding="utf-8") as file:
        for row in _rows(path, _ANSWERS):
            file.write(json.dumps(_exported(row), ensure_ascii=False) + "\n")
            num_rows += 1
    return num_rows


def _exported(row: tuple[Any, ...]) -> dict[str, Any]:
    names = ("text", "reasoning", "finish_reason", "answered_by", "prompt_tokens", "cached_tokens", "completion_tokens")
    teacher, model, body, state, reason, *rest = row
    cost, currency, run, sent_at, key = rest[len(names) :]
    return {
        "teacher": teacher,
        "model": model,
        **json.loads(body),
        "state": state,
        "reason": reason,
        **dict(zip(names, rest, strict=False)),
        "cost": cost,
        "currency": currency,
        "run": run,
        "sent_at": sent_at,
        "key": key,
    }


def _rows(path: str | Path, sql: str) -> Iterator[tuple[Any, ...]]:
    database = connect(Path(path), is_read_only=True)
    try:
        yield from database.execute(sql)
    finally:
        database.close()

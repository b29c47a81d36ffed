"""Ledger report: what was spent, on what, and what is not known; reading only, also while a run is writing."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.errors import ConfigError
from align.store.whole_file import must_be_new, whole_file
from align.teachers.ledger.budget import in_words
from align.teachers.ledger.store import connect
from align.text.shorten import shorten

_MOST_SHOWN = 10
"""Unknown outcomes that are printed one by one."""

_BESIDE = ("-journal", "-wal", "-shm", ".lock")
"""Endings of the files that SQLite, and the lock, keep beside a ledger."""

_LINES = """
SELECT run, teacher, model, date(sent_at, 'unixepoch', 'localtime') AS day, currency,
    sum(state = 'answered'), sum(state = 'failed'), sum(state = 'refused'),
    sum(state IN ('unknown', 'sent')),
    coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0),
    sum(cost), sum(iif(state IN ('unknown', 'sent'), cost, 0))
FROM entries GROUP BY 1, 2, 3, 4, 5 ORDER BY 4, 1, 2, 3, 5
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
    teacher: str
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
    """Write every recorded answer and failed call as a line of JSON to a new file; returns how many.

    Raises:
        ConfigError: there is no such ledger, the target is there already or has a name that belongs to the ledger;
            nothing is written then.
        StorageError: the disk or the file system refuses.
    """
    rows, target = _rows(path, _ANSWERS), Path(target)
    if target.absolute() in {Path(f"{Path(path).absolute()}{ending}") for ending in _BESIDE}:
        raise ConfigError(f"{target}: is a name under which the ledger keeps a file of its own; name another file")
    first = next(rows, None)  # the ledger can be read, before anything is made
    must_be_new(target)
    num_rows = 0
    with whole_file(target) as file:
        for row in itertools.chain([first] if first else [], rows):
            file.write(json.dumps(_exported(row), ensure_ascii=False).encode() + b"\n")
            num_rows += 1
    return num_rows


def print_ledger(path: str | Path) -> None:
    """What was spent, by run, model and day, its sum, and what has an unknown outcome, on the terminal."""
    from rich.console import Console
    from rich.table import Table

    lines, unknown = spending(path), unknown_outcomes(path)
    table = Table("day", "run", "teacher", "model", box=None, pad_edge=False)
    for name in ("answered", "failed", "refused", "unknown", "tokens in", "tokens out", "spent"):
        table.add_column(name, justify="right")
    for line in lines:
        numbers = (line.num_answered, line.num_failed, line.num_refused, line.num_unknown)
        tokens = (line.prompt_tokens, line.completion_tokens)
        texts = (f"{number:,}" for number in (*numbers, *tokens))
        table.add_row(line.day, line.run, line.teacher, line.model, *texts, in_words(line.cost, line.currency))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200)  # a file has no width, and nothing is to be cut
    console.print(table)
    total, uncertain = Counter[str](), Counter[str]()
    for line in lines:
        total[line.currency] += line.cost
        uncertain[line.currency] += line.cost_of_unknown
    for currency, amount in total.items():
        if amount:
            part = f", of which {in_words(uncertain[currency], currency)} may not have been charged"
            console.print(f"spent: {in_words(amount, currency)}{part if uncertain[currency] else ''}", markup=False)
    if unknown:
        console.print(f"{len(unknown)} requests have an unknown outcome: they may have been answered and paid for")
    for one in unknown[:_MOST_SHOWN]:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.sent_at))
        content = json.dumps(one.body["messages"][-1]["content"], ensure_ascii=False) if "messages" in one.body else ""
        what = f"{one.teacher}:{one.model}  {one.reason.split(':')[0]}  {shorten(content, 60)}"
        console.print(f"  {at}  {what}", markup=False)
    if len(unknown) > _MOST_SHOWN:
        console.print(f"  … and {len(unknown) - _MOST_SHOWN} more")


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

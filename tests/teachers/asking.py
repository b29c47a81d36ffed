"""What tests of the endpoint teacher share: a place on loopback, little patience, and one call."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

from align.data.rows.message import Message
from align.teachers.base import Completion, Sampling
from align.teachers.endpoint.pool import Patience
from align.teachers.endpoint.provider import Place
from align.teachers.endpoint.teacher import EndpointTeacher
from align.teachers.ledger.budget import Budget
from align.teachers.ledger.ledger import Ledger
from align.teachers.ledger.prices import Price
from align.teachers.ledger.store import connect

PRICE = Price(currency="CNY", input=2.0, cached=0.5, output=8.0)
HURRIED = Patience(reply_s=5.0, connect_s=5.0, pause_s=0.01, longest_pause_s=0.05, unreachable_s=0.3, max_tries=3)
SAMPLING = Sampling(temperature=0.5, top_p=0.9, max_tokens=40, seed=7)


def place(*urls: str, **changes: Any) -> Place:
    return Place(**{"name": "t", "model": "m", "urls": urls, "price": PRICE, **changes})


def ask(
    tmp_path: Path,
    where: Place,
    *texts: str,
    budget: Budget | None = None,
    sampling: Sampling = SAMPLING,
    open_with: dict[str, Any] | None = None,
    **teacher: Any,
) -> list[Completion | BaseException]:
    """Ask for every text at once (default: one); what each call gave or raised."""

    async def main() -> list[Completion | BaseException]:
        async with Ledger.open(tmp_path / "ledger.sqlite", run="r", budget=budget, **(open_with or {})) as ledger:
            asked = EndpointTeacher(where, ledger, **{"patience": HURRIED, **teacher})
            calls = [asked.complete((Message("user", text),), sampling) for text in texts or ("hello",)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            await asked.aclose()
            return [result if isinstance(result, BaseException) else result[0] for result in results]

    return asyncio.run(main())


def entries(tmp_path: Path, *columns: str) -> list[tuple[Any, ...]]:
    """Columns of the ledger's entries, in the order in which they were sent; one column comes bare."""
    database = connect(tmp_path / "ledger.sqlite", is_read_only=True)
    try:
        found = database.execute(f"SELECT {', '.join(columns)} FROM entries ORDER BY id").fetchall()
    finally:
        database.close()
    return [row[0] for row in found] if len(columns) == 1 else found


def closed_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])

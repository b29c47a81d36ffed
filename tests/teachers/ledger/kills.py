"""A process that asks for rows until it kills itself at a chosen moment, and the server that it asks.

    python -m tests.teachers.kills URL LEDGER FIRST LAST PHASE COUNT

`PHASE` is the moment and `COUNT` the how-manieth time it comes; `on the wire` is left to the server, which kills this
process when a request has come in. The last line written names the row at which it happened.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections import defaultdict

from align.data.rows.message import Message
from align.teachers.base import Sampling
from align.teachers.endpoint.pool import Patience
from align.teachers.endpoint.provider import Place
from align.teachers.endpoint.teacher import EndpointTeacher
from align.teachers.ledger.entry import Call, Entry, Outcome, State
from align.teachers.ledger.ledger import Ledger
from tests.teachers.server import Reply, Request, answer, error

PHASES = ("intent written", "on the wire", "answered but uncommitted", "committed")
CONCURRENCY = 32
SAMPLING = Sampling(temperature=1.0, max_tokens=16)
PATIENCE = Patience(pause_s=0.005, longest_pause_s=0.05, max_tries=100)


class MortalLedger(Ledger):
    """Kills its process with SIGKILL when a phase comes for the n-th time."""

    phase = ""
    count = 0

    def pass_through(self, phase: str, row: str) -> None:
        if phase == self.phase:
            self.count -= 1
            if self.count == 0:
                os.write(1, f"{row}\n".encode())
                os.kill(os.getpid(), signal.SIGKILL)

    async def begin(self, call: Call, worst_case: int, currency: str) -> Entry:
        entry = await super().begin(call, worst_case, currency)
        self.rows[entry.id] = call.body["messages"][-1]["content"]
        self.pass_through("intent written", self.rows[entry.id])
        return entry

    def settle(self, entry: Entry, outcome: Outcome, currency: str) -> asyncio.Future[None]:
        row = self.rows.pop(entry.id)
        if outcome.state is State.ANSWERED:
            self.pass_through("answered but uncommitted", row)
        written = super().settle(entry, outcome, currency)
        if outcome.state is State.ANSWERED:
            written.add_done_callback(lambda _: self.pass_through("committed", row))
        return written

    @property
    def rows(self) -> dict[int, str]:
        return self.__dict__.setdefault("_rows", {})


async def ask_all(url: str, path: str, rows: range, phase: str = "", count: int = 0) -> dict[str, str]:
    """Every row's answer, asked through a teacher with `CONCURRENCY` at once."""
    async with MortalLedger.open(path, run="kills") as ledger:
        assert isinstance(ledger, MortalLedger)
        ledger.phase, ledger.count = phase, count
        teacher = EndpointTeacher(Place("t", "m", (url,)), ledger, CONCURRENCY, patience=PATIENCE)
        slots = asyncio.Semaphore(2 * CONCURRENCY)

        async def one(row: str) -> str:
            async with slots:
                return (await teacher.complete((Message("user", row),), SAMPLING))[0].text

        names = [f"row {number}" for number in rows]
        answers = await asyncio.gather(*(one(name) for name in names))
        await teacher.aclose()
    return dict(zip(names, answers, strict=True))


class PayingServer:
    """What a provider does: notes each paid answer before it is written, and fails one time in five."""

    def __init__(self, seed: int) -> None:
        self.paid: dict[str, list[str]] = defaultdict(list)
        self.asked: list[str] = []
        """Rows asked in the life of the present process."""
        self.num_faults = 0
        self.num_requests = 0
        self.victim = 0
        """The process to kill; 0: nobody."""
        self.kill_in = 0
        self.killed_at = ""
        self._numbers = random.Random(seed)

    def behave(self, request: Request) -> Reply:
        row = request.prompt
        self.asked.append(row)
        self.num_requests += 1
        if self.victim:
            self.kill_in -= 1
            if self.kill_in == 0:
                self.killed_at = row
                os.kill(self.victim, signal.SIGKILL)
                self.victim = 0
        delay_s = self._numbers.uniform(0.001, 0.02)
        if self._numbers.random() < 0.2:
            self.num_faults += 1
            return self._fault(row, delay_s)
        return Reply(self._pay(row).body, delay_s=delay_s)

    def _pay(self, row: str) -> Reply:
        self.paid[row].append(f"{row} is {self._numbers.random()}")
        return answer(self.paid[row][-1])

    def _fault(self, row: str, delay_s: float) -> Reply:
        kind = self._numbers.choice(["unpaid reset", "paid reset", "truncated", "500", "502", "html", "empty"])
        if kind in ("unpaid reset", "500", "html"):
            replies = {"unpaid reset": Reply(is_reset=True), "500": error(500), "html": Reply(b"<html>no</html>")}
            reply = replies[kind]
        else:
            body = self._pay(row).body
            empty = {**body, "choices": []} if isinstance(body, dict) else {}
            replies = {"paid reset": Reply(is_reset=True), "truncated": Reply(body, num_bytes=60), "502": error(502)}
            reply = replies.get(kind, Reply(empty))
        reply.delay_s = delay_s
        return reply


if __name__ == "__main__":
    url, path, first, last, phase, count = sys.argv[1:]
    asyncio.run(ask_all(url, path, range(int(first), int(last)), phase, int(count)))

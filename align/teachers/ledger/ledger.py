"""Ledger: every call to a paid teacher, on disk before it is sent and again when it is answered.

An answer that was paid for is never lost and never bought twice: equal calls find the recorded answer, and equal calls
under way wait for one request. What cannot be known, because a process died or a connection broke after sending, is
kept as an unknown outcome and counted as spent at its worst case. So is a call under way, which is why a budget holds
across processes and kills.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from align.errors import AnswerError, ConfigError
from align.teachers.ledger.budget import Budget
from align.teachers.ledger.entry import Answer, Call, Entry, Outcome, State
from align.teachers.ledger.file import lock, refuse_network_disk, unlock
from align.teachers.ledger.store import FIXED, LedgerStore, Value

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on

_NO_ANSWER: tuple[Value, ...] = (None,) * 7
_STANDS_THERE = ("",) * (len(FIXED) - 1)
"""Columns that are not written again when a request is settled."""
NOT_SENT = "not_sent"
"""Reason of a request that was given up before it was sent."""
DRAIN_S = 60.0
"""How long closing waits for the answers that are on their way."""


@dataclass
class Totals:
    """What happened in this process."""

    num_recorded: int = 0
    """Calls that found their answer in the ledger, or an equal call under way."""
    num_answered: int = 0
    """Calls that were asked and answered."""
    num_refused: int = 0
    """Requests that were turned away."""
    num_unknown: int = 0
    """Requests that may have been answered and paid for."""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Ledger:
    """One file of calls and answers, written by one process at a time. Use it as `async with Ledger.open(path)`."""

    def __init__(self, path: Path, run: str, budget: Budget, asks_failed_again: bool) -> None:
        """Use `open`."""
        self.path = path
        self.run = run
        self.budget = budget
        self.totals = Totals()
        self._asks_failed_again = asks_failed_again
        self._lock = lock(path)
        try:
            self._store = LedgerStore(path)
            self._settle_what_a_kill_left()
            self._next_id = int(self._store.read("SELECT coalesce(max(id), 0) FROM entries")[0][0] or 0) + 1
            budget.start(self._spent())
        except BaseException:
            unlock(self._lock)
            raise
        self._under_way: dict[str, tuple[str, asyncio.Task[Answer]]] = {}
        self._on_the_wire: dict[int, Entry] = {}
        self._is_closing = False
        self._is_closed = False

    @classmethod
    def open(
        cls, path: str | Path, run: str = "", budget: Budget | None = None, asks_failed_again: bool = False
    ) -> Self:
        """Open or make a ledger.

        `run` is the name that spending is summed under, and that `budget` holds for. `asks_failed_again` asks calls
        anew that failed for a reason of their own, such as a refused prompt.

        Raises:
            RefusedError: another process is writing into it.
            ConfigError: the file is not a ledger, or lies on a network disk.
        """
        path = Path(path)
        refuse_network_disk(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        return cls(path, run, budget or Budget(), asks_failed_again)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def num_under_way(self) -> int:
        """Calls that wait for an answer, or for their turn to be sent."""
        return len(self._under_way)

    def register(self, teacher: str, urls: Sequence[str], is_confirmed: bool = False) -> None:
        """Note where a teacher stands.

        Raises:
            ConfigError: it stood elsewhere before, and nobody has confirmed that it is the same one.
        """
        now = json.dumps(sorted(urls))
        found = self._store.read("SELECT urls FROM teachers WHERE name = ?", teacher)
        before = str(found[0][0]) if found else now
        if before != now and not is_confirmed:
            raise ConfigError(
                f"teacher {teacher}: stood at {_listed(before)} before and now at {_listed(now)}, and its recorded "
                "answers would be taken for those of the new place; give it another name: or, if the same model "
                "answers there, confirm with same_teacher=true"
            )
        if before != now or not found:
            self._store.change("INSERT OR REPLACE INTO teachers VALUES (?, ?)", teacher, now)

    def has_answered(self, teacher: str, model: str) -> bool:
        """Whether it ever did, so that its settings are right."""
        found = "SELECT 1 FROM entries WHERE teacher = ? AND model = ? AND state = 'answered' LIMIT 1"
        return bool(self._store.read(found, teacher, model))

    async def answer(self, call: Call, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """The recorded answer, that of an equal call under way, or what `ask` brings.

        `ask` sends requests, each between `begin` and `settle`. It goes on if the caller is cancelled, until `drain`.

        Raises:
            AnswerError: this call has failed before.
        """
        if (recorded := self.recorded(call)) is not None:
            self.totals.num_recorded += 1
            return recorded
        if call.key in self._under_way:
            self.totals.num_recorded += 1
        else:
            task = asyncio.ensure_future(_as_coroutine(ask))
            self._under_way[call.key] = call.asked_of, task
            task.add_done_callback(lambda done: self._finish(call.key, done))
        return await asyncio.shield(self._under_way[call.key][1])

    async def begin(self, call: Call, worst_case: int, currency: str) -> Entry:
        """Reserve the worst case and note that a request will be sent; it may be sent when this returns.

        Raises:
            BudgetError: the budget does not allow it.
        """
        await self.budget.reserve(worst_case, currency)
        if self._is_closing:
            self.budget.settle(worst_case, 0, currency)
            raise asyncio.CancelledError("the ledger is closing")
        entry = Entry(self._next_id, call.key, worst_case, asyncio.current_task())
        self._next_id += 1
        self._on_the_wire[entry.id] = entry
        asked = (entry.id, call.key, self.run, call.teacher, call.model, call.body_json, time.time(), currency)
        try:
            await self._store.put((*asked, worst_case, State.SENT.value, None, "", *_NO_ANSWER))
        except BaseException:  # cancelled, or the disk is full: nothing will be sent
            self.settle(entry, Outcome(State.REFUSED, reason=NOT_SENT), currency)
            raise
        return entry

    def settle(self, entry: Entry, outcome: Outcome, currency: str) -> asyncio.Future[None]:
        """Note how a request ended; the future is done when that is on disk."""
        cost = entry.worst_case if outcome.cost is None else outcome.cost
        self.budget.settle(entry.worst_case, cost, currency)
        del self._on_the_wire[entry.id]
        self._count(outcome)
        answer = outcome.answer.columns if outcome.answer is not None else _NO_ANSWER
        return self._store.put(
            (entry.id, *_STANDS_THERE, cost, outcome.state.value, time.time(), outcome.reason, *answer)
        )

    def record(self, call: Call, answer: Answer) -> asyncio.Future[None]:
        """Note an answer that cost nothing, so no intent had to be on disk before; done when it is there."""
        self._count(Outcome(State.ANSWERED, answer=answer))
        asked = (self._next_id, call.key, self.run, call.teacher, call.model, call.body_json, time.time(), "")
        self._next_id += 1
        return self._store.put((*asked, 0, State.ANSWERED.value, time.time(), "", *answer.columns))

    async def drain(self, teacher: str | None = None, seconds: float = DRAIN_S) -> None:
        """End what is under way: requests on the wire are waited for, all else is cancelled.

        `teacher` is one of them, as `name:model`; None means all.
        """
        sending = {entry.task for entry in self._on_the_wire.values()}
        tasks = [task for name, task in self._under_way.values() if teacher in (None, name)]
        for task in tasks:
            if task not in sending:
                task.cancel()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def aclose(self) -> None:
        """Wait for what is on the wire, write everything, and let another process in."""
        if self._is_closed:
            return
        self._is_closing = True
        await self.drain()
        await asyncio.to_thread(self._store.close)
        unlock(self._lock)
        self._is_closed = True

    def recorded(self, call: Call) -> Answer | None:
        """The recorded answer; None if it has to be asked.

        Raises:
            AnswerError: this call has failed before, and is not to be asked again.
        """
        found = self._store.read(
            "SELECT state, reason, text, reasoning, finish_reason, answered_by, prompt_tokens, cached_tokens, "
            "completion_tokens FROM entries WHERE key = ? AND state IN ('answered', 'failed') ORDER BY state LIMIT 1",
            call.key,
        )
        if not found:
            return None
        state, reason, *answer = found[0]
        if state == State.ANSWERED.value:
            return Answer(*answer)  # type: ignore[arg-type]  # columns of the schema
        if self._asks_failed_again:
            return None
        slug, _, detail = str(reason).partition(": ")
        raise AnswerError(slug, detail)

    def _count(self, outcome: Outcome) -> None:
        self.totals.num_answered += outcome.state is State.ANSWERED
        self.totals.num_refused += outcome.state is State.REFUSED and outcome.reason != NOT_SENT
        self.totals.num_unknown += outcome.state is State.UNKNOWN
        if outcome.answer is not None:
            self.totals.prompt_tokens += outcome.answer.prompt_tokens or 0
            self.totals.completion_tokens += outcome.answer.completion_tokens or 0

    def _finish(self, key: str, task: asyncio.Task[Answer]) -> None:
        del self._under_way[key]
        if not task.cancelled():
            task.exception()  # whoever waited has it; if nobody did, it is in the ledger

    def _settle_what_a_kill_left(self) -> None:
        """No other process writes here, so what is still open belongs to one that is gone."""
        self._store.change(
            "UPDATE entries SET state = 'unknown', settled_at = ?, reason = 'killed' WHERE state = 'sent'", time.time()
        )

    def _spent(self) -> dict[str, int]:
        """By currency, in this run."""
        sums = self._store.read("SELECT currency, sum(cost) FROM entries WHERE run = ? GROUP BY currency", self.run)
        return {str(currency): int(total or 0) for currency, total in sums if total}


async def _as_coroutine(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    return await ask()


def _listed(urls: str) -> str:
    return ", ".join(json.loads(urls))

"""Endpoint pool: which endpoint takes the next request, when one is set aside, and when the run has to end.

A call first takes a seat, notes its intent, and then waits for a slot at the endpoint with the most room. There are a
few more seats than slots, so that the intent of the next request is on disk when a slot becomes free. An endpoint that
cannot be reached, or that fails several times in a row, is set aside and tried again with one request at a time, at
growing intervals. When no endpoint has answered for a while, everybody who waits gets the same error.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from align.errors import UnreachableError
from align.teachers.endpoint.limiter import Limiter
from align.teachers.endpoint.rules import Rule, Then

_BAD_IN_A_ROW = 8
"""Failures in a row after which an endpoint is set aside that can be reached."""
_AHEAD = 0.25
"""Intents that are written ahead, as a share of the slots."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited, for what."""

    reply_s: float = 1800.0
    """For a whole reply. DeepSeek holds a request for up to half an hour (w3cschool.cn/deepseekdocs,
    https://api-docs.deepseek.com/quick_start/rate_limit)."""
    connect_s: float = 20.0
    """For a connection."""
    pause_s: float = 0.5
    """Before the first retry; twice as long before each further one."""
    longest_pause_s: float = 30.0
    unreachable_s: float = 120.0
    """Without any answer, before the run ends; what a server asks to wait comes on top."""
    max_tries: int = 4
    """Of one call, where a try may have been paid for."""

    def pause(self, num_before: int) -> float:
        """Seconds before the next try."""
        return min(self.longest_pause_s, self.pause_s * 2.0**num_before)


@dataclass(eq=False)
class Endpoint:
    """One URL of a teacher."""

    url: str
    limiter: Limiter
    num_bad: int = 0
    """Failures since its last answer."""
    num_asides: int = 0
    aside_at: float = -math.inf
    aside_until: float = -math.inf

    def free_at(self, now: float) -> float:
        if self.num_asides and self.limiter.in_flight:
            return math.inf
        return max(self.aside_until, self.limiter.free_at(now))


@dataclass(slots=True)
class Slot:
    """Leave to send one request."""

    endpoint: Endpoint
    sent_at: float


@dataclass(eq=False)
class EndpointPool:
    """Endpoints of one teacher, and the calls that wait for one."""

    teacher: str
    endpoints: Sequence[Endpoint]
    patience: Patience
    _standing: deque[asyncio.Future[None]] = field(default_factory=deque)
    """Calls that want a seat."""
    _waiting: deque[asyncio.Future[Slot]] = field(default_factory=deque)
    """Calls that have a seat and want a slot."""
    _num_seated: int = 0
    _timer: asyncio.TimerHandle | None = None
    _failing_since: float | None = None
    _asked_to_wait_s: float = 0.0
    _end: Exception | None = None

    async def sit_down(self) -> None:
        """Wait for a seat; given back by `report` or `leave`.

        Raises:
            UnreachableError: no endpoint answers any more.
        """
        if self._end is not None:
            raise self._end
        if not self._standing and self._num_seated < self._num_seats:
            self._num_seated += 1
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._standing.append(future)
        try:
            await future
        except asyncio.CancelledError:
            if _was_granted(future):
                self.leave()
            raise

    def leave(self) -> None:
        """Nothing will be sent from this seat."""
        self._num_seated -= 1
        self._hand_out()

    async def acquire(self) -> Slot:
        """Wait for leave to send, from a seat.

        Raises:
            UnreachableError: no endpoint answers any more.
        """
        if self._end is not None:
            raise self._end
        future: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._hand_out()
        try:
            return await future
        except asyncio.CancelledError:
            if _was_granted(future):
                future.result().endpoint.limiter.end()
            raise

    def report(self, slot: Slot, rule: Rule, detail: str, wait_s: float | None) -> None:
        """A request has ended; slot and seat are free."""
        now = time.monotonic()
        self._num_seated -= 1
        endpoint, limiter = slot.endpoint, slot.endpoint.limiter
        limiter.end()
        if rule.then is Then.BACK_OFF:
            limiter.refuse(now, slot.sent_at, wait_s)
            self._note_failure(now, rule, detail, endpoint, wait_s or 0.0)
        elif rule.then in (Then.TRY_ELSEWHERE, Then.RETRY):
            self._note_bad(now, slot, rule)
            self._note_failure(now, rule, detail, endpoint, 0.0)
        else:
            limiter.accept(now)
            endpoint.num_bad = endpoint.num_asides = 0
            self._failing_since, self._asked_to_wait_s = None, 0.0
        self._hand_out()

    def stop(self, error: Exception) -> None:
        """Nothing more is sent; all who wait or come get this error."""
        self._end = self._end or error
        futures: list[asyncio.Future[Any]] = [*self._standing, *self._waiting]
        for future in futures:
            if not future.done():
                future.set_exception(self._end)
        self._standing.clear()
        self._waiting.clear()

    @property
    def _num_seats(self) -> int:
        num_slots = sum(int(endpoint.limiter.limit) for endpoint in self.endpoints)
        return num_slots + max(1, int(_AHEAD * num_slots))

    def _note_bad(self, now: float, slot: Slot, rule: Rule) -> None:
        endpoint = slot.endpoint
        if slot.sent_at < endpoint.aside_at:
            return
        endpoint.num_bad += 1
        if rule.then is Then.TRY_ELSEWHERE or endpoint.num_bad >= _BAD_IN_A_ROW or endpoint.num_asides:
            endpoint.aside_at = now
            endpoint.aside_until = now + self.patience.pause(endpoint.num_asides)
            endpoint.num_asides += 1

    def _note_failure(self, now: float, rule: Rule, detail: str, endpoint: Endpoint, wait_s: float) -> None:
        if self._failing_since is None:
            self._failing_since = now
        self._asked_to_wait_s = max(self._asked_to_wait_s, now - self._failing_since + wait_s if wait_s else 0.0)
        if now - self._failing_since > self.patience.unreachable_s + self._asked_to_wait_s:
            said = f"; the server says: {detail}" if detail else ""
            seconds = now - self._failing_since
            self.stop(
                UnreachableError(
                    f"teacher {self.teacher}: no answer for {seconds:.0f} s; last, at {endpoint.url}: "
                    f"{rule.meaning}{said}. Every answer is kept; the same command goes on from there"
                )
            )

    def _hand_out(self) -> None:
        """Give seats and slots to those who wait, as far as there are any; else come back when there may be one."""
        while self._standing and self._num_seated < self._num_seats:
            standing = self._standing.popleft()
            if not standing.done():
                self._num_seated += 1
                standing.set_result(None)
        now = time.monotonic()
        while self._waiting:
            if self._waiting[0].done():
                self._waiting.popleft()
                continue
            free = [endpoint for endpoint in self.endpoints if endpoint.free_at(now) <= now]
            if not free:
                self._come_back(min(endpoint.free_at(now) for endpoint in self.endpoints) - now)
                return
            endpoint = min(free, key=lambda one: one.limiter.load)
            endpoint.limiter.send(now)
            self._waiting.popleft().set_result(Slot(endpoint, now))

    def _come_back(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds < math.inf:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._hand_out)


def _was_granted(future: asyncio.Future[Any]) -> bool:
    """Whether a caller was cancelled just after it got what it waited for."""
    return future.done() and not future.cancelled() and future.exception() is None

"""Limiter: how many requests one endpoint gets at once and per second.

It starts at the configured cap without a rate. A refusal cuts both, once for all requests that were sent before it
(multiplicative decrease); what is accepted afterwards raises both again (additive increase). The rate starts from what
the server has accepted in the last second, so a server that allows ten a second is found in one round.

All times are given by the caller, in seconds of one clock.
"""

from __future__ import annotations

import math
from collections import deque

WINDOW_S = 1.0
CUT_RATE, CUT_CONCURRENCY = 0.85, 0.7
SLOWEST = 0.5
"""Requests per second that are tried whatever happens."""
_WITHOUT_A_HINT = 8.0
"""Requests per second that are halved when a server refuses and has accepted nothing lately."""
_GROWTH, _FASTEST_GROWTH, _GROWTH_DOUBLES_S = 0.02, 0.5, 5.0
"""Share of the rate that is added in a second: small near the rate that was refused, twice as much every 5 s."""


class Pace:
    """Requests per second, spaced evenly. Infinite until a refusal, unless a most is configured."""

    def __init__(self, most_per_second: float | None = None) -> None:
        self.rate = self._most = most_per_second or math.inf
        self._accepted: deque[float] = deque()
        self._next_at = -math.inf
        self._cut_at = -math.inf
        self._grown_at = -math.inf
        self._is_binding = False

    def free_at(self, now: float) -> float:
        """When the next request may be sent; not after `now` if at once."""
        if self._next_at > now:
            self._is_binding = True
        return self._next_at

    def send(self, now: float) -> None:
        """A request is sent."""
        if self.rate < math.inf:
            self._grow(now)
            self._next_at = max(self._next_at, now - 1 / self.rate) + 1 / self.rate

    def accept(self, now: float) -> None:
        """A request was not refused."""
        self._accepted.append(now)
        while self._accepted[0] < now - WINDOW_S:
            self._accepted.popleft()

    def refuse(self, now: float, sent_at: float) -> bool:
        """A request was refused; whether that is news."""
        if sent_at < self._cut_at:
            return False
        recent = sum(1 for moment in self._accepted if moment >= now - WINDOW_S) / WINDOW_S
        if recent > self.rate:  # the server still counts an earlier burst; this rate has not been tried yet
            self._next_at = max(self._next_at, now + WINDOW_S / 4)
            return False
        if recent:
            self.rate = max(SLOWEST, CUT_RATE * min(self.rate, recent))
        else:
            self.rate = max(SLOWEST, 0.5 * min(self.rate, _WITHOUT_A_HINT))
        self._cut_at = self._grown_at = now
        self._next_at = now + 1 / self.rate
        self._is_binding = False
        return True

    def _grow(self, now: float) -> None:
        """Grows only while it holds requests back, else it says nothing about the server."""
        seconds, self._grown_at = now - self._grown_at, now
        if self._is_binding and self._cut_at > -math.inf:
            growth = _GROWTH * 2 ** min(10.0, (now - self._cut_at) // _GROWTH_DOUBLES_S)
            self.rate = min(self._most, self.rate * (1 + min(growth, _FASTEST_GROWTH) * min(seconds, 1.0)))
        self._is_binding = False


class Limiter:
    """Slots and pace of one endpoint."""

    def __init__(self, concurrency: int, requests_per_second: float | None = None) -> None:
        self.pace = Pace(requests_per_second)
        self.limit = float(concurrency)
        """Requests at once."""
        self.in_flight = 0
        self.num_refused = 0
        self._cap = concurrency
        self._paused_until = -math.inf

    @property
    def load(self) -> float:
        """Share of the slots in use."""
        return self.in_flight / self.limit

    def free_at(self, now: float) -> float:
        """When the next request may be sent; infinite while every slot is taken."""
        if self.in_flight >= int(self.limit):
            return math.inf
        return max(self.pace.free_at(now), self._paused_until)

    def send(self, now: float) -> None:
        """Take a slot."""
        self.in_flight += 1
        self.pace.send(now)

    def end(self) -> None:
        """Give a slot back."""
        self.in_flight -= 1

    def accept(self, now: float) -> None:
        """A request was not refused."""
        self.pace.accept(now)
        self.limit = min(self._cap, self.limit + 1 / self.limit)

    def refuse(self, now: float, sent_at: float, wait_s: float | None) -> None:
        """A request was refused; `wait_s` is what the server asks for, None if it does not say."""
        self.num_refused += 1
        if self.pace.refuse(now, sent_at):
            self.limit = max(1.0, self.limit * CUT_CONCURRENCY)
        self._paused_until = max(self._paused_until, now + (wait_s or 0.0))

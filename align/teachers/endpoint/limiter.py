"""Limiter: how many requests one endpoint gets at once and per second.

It starts at the configured cap without a rate. A refusal cuts both, once for all requests that were sent before it
(multiplicative decrease); what is accepted afterwards raises both again (additive increase). The rate starts from what
the server has accepted in the last second, so a server that allows ten a second is found in one round.

A server that is busy with others refuses a share of the requests however slowly they come. Giving way to that would
end at a crawl (5 % refused at random: 2.5 requests/s where 80 were possible), so it is told apart: what is refused well
below the pace at which it began has another reason, and once the share of such refusals is known, only more counts.

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

_NEAR = 0.9
"""Share of a pace that was refused, below which a refusal has another reason."""
_SAMPLE = 60
"""Requests that tell how many are refused at random; more than a fifth is a server that wants to be left alone."""
_MORE = 0.06
"""Share of refusals on top of that, from which on it is the pace after all."""


class Pace:
    """Requests per second, spaced evenly. Infinite until a refusal, unless a most is configured."""

    def __init__(self, most_per_second: float | None = None) -> None:
        self.rate = self._most = most_per_second or math.inf
        self._accepted: deque[float] = deque()
        self._next_at = -math.inf
        self._cut_at = -math.inf
        self._grown_at = -math.inf
        self._is_binding = False
        self._is_searching = False
        """Nothing was accepted before the last refusal, so nothing is known of the rate that would be."""

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
        recent = self.accepted_per_second(now)
        if recent > self.rate:  # the server still counts an earlier burst; this rate has not been tried yet
            self._next_at = max(self._next_at, now + WINDOW_S / 4)
            return False
        self._is_searching = not recent
        if recent:
            self.rate = max(SLOWEST, CUT_RATE * min(self.rate, recent))
        else:
            self.rate = max(SLOWEST, 0.5 * min(self.rate, _WITHOUT_A_HINT))
        self._cut_at = self._grown_at = now
        self._next_at = now + 1 / self.rate
        self._is_binding = False
        return True

    def accepted_per_second(self, now: float) -> float:
        """Over the last second."""
        return sum(1 for moment in self._accepted if moment >= now - WINDOW_S) / WINDOW_S

    def _grow(self, now: float) -> None:
        """Grows only while it holds requests back, else it says nothing about the server."""
        seconds, self._grown_at = now - self._grown_at, now
        if self._is_binding and self._cut_at > -math.inf:
            growth = min(_FASTEST_GROWTH, _GROWTH * 2 ** min(10.0, (now - self._cut_at) // _GROWTH_DOUBLES_S))
            growth = 1.0 if self._is_searching else growth
            self.rate = min(self._most, self.rate * (1 + growth * min(seconds, 1.0)))
        self._is_binding = False


class Background:
    """Refusals that do not depend on the pace."""

    def __init__(self) -> None:
        self.share: float | None = None
        """Of the requests; None while there is no sign of it."""
        self._unprovoked: deque[bool] = deque(maxlen=_SAMPLE)
        self._recent: deque[bool] = deque(maxlen=3 * _SAMPLE)

    def note(self, is_refused: bool, is_provoked: bool) -> None:
        """A request came back; provoked: while about as many were accepted as when one was refused before."""
        self._recent.append(is_refused)
        if not is_provoked:
            self._unprovoked.append(is_refused)

    def is_found(self) -> bool:
        """Whether it shows now and did not before."""
        num_refused = sum(self._unprovoked)
        if self.share is not None or len(self._unprovoked) < _SAMPLE or not 2 <= num_refused <= _SAMPLE // 5:
            return False
        self.share = num_refused / _SAMPLE
        self._recent.clear()
        return True

    def explains(self) -> bool:
        """Whether a refusal now is one of those. If there are many more, it is forgotten."""
        if self.share is None:
            return False
        if len(self._recent) >= _SAMPLE and sum(self._recent) > (self.share + _MORE) * len(self._recent):
            self.share = None
            self._unprovoked.clear()
        return self.share is not None


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
        self._background = Background()
        self._refused_at = (0.0, float(concurrency))
        """Requests accepted per second, and slots, when one was refused that was provoked."""

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
        self._background.note(False, self._is_provoking(now))

    def refuse(self, now: float, sent_at: float, wait_s: float | None) -> None:
        """A request was refused; `wait_s` is what the server asks for, None if it does not say."""
        self.num_refused += 1
        self._paused_until = max(self._paused_until, now + (wait_s or 0.0))
        is_provoked = self._is_provoking(now)
        self._background.note(True, is_provoked)
        if self._background.explains():
            return
        before = self.pace.accepted_per_second(now), self.limit
        if self.pace.refuse(now, sent_at):
            self.limit = max(1.0, self.limit * CUT_CONCURRENCY)
            if is_provoked:
                self._refused_at = before
        if self._background.is_found():
            self.pace.rate, self.limit = max(self.pace.rate, self._refused_at[0]), self._refused_at[1]

    def _is_provoking(self, now: float) -> bool:
        """Whether about as many are accepted as when one was refused."""
        return self.pace.accepted_per_second(now) >= _NEAR * self._refused_at[0]

"""The limiter: finds what a server allows, in simulated time, and gives way when it is refused."""

from __future__ import annotations

import heapq
import math
import random
from datetime import datetime, timezone

import pytest

from align.teachers.endpoint.limiter import Limiter, Pace
from align.teachers.endpoint.retry_after import seconds_to_wait


class Bucket:
    """A server that allows so many requests per second, with a burst of as many."""

    def __init__(self, per_second: float) -> None:
        self.per_second = self.tokens = per_second
        self.at = 0.0

    def takes(self, now: float) -> bool:
        self.tokens = min(self.per_second, self.tokens + (now - self.at) * self.per_second)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class Sliding(Bucket):
    """A server that looks at the last second."""

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self.taken: list[float] = []

    def takes(self, now: float) -> bool:
        self.taken = [at for at in self.taken if at > now - 1]
        if len(self.taken) >= self.per_second:
            return False
        self.taken.append(now)
        return True


class Window(Bucket):
    """A server that counts requests in each second of the clock, refused ones included."""

    def takes(self, now: float) -> bool:
        if int(now) != int(self.at):
            self.tokens = self.per_second
        self.at = now
        self.tokens -= 1
        return self.tokens >= 0


class Busy(Bucket):
    """A server that refuses a share of the requests at random, however many there are, and passes on the others."""

    def __init__(self, share: float, seed: int, behind: Bucket | None = None) -> None:
        self.share, self.behind, self.numbers = share, behind, random.Random(seed)

    def takes(self, now: float) -> bool:
        is_taken = self.numbers.random() >= self.share
        return is_taken and (self.behind is None or self.behind.takes(now))


def simulate(limiter: Limiter, server, seconds: float, latency: float = 0.05) -> list[tuple[float, bool]]:
    """Send as fast as the limiter lets; (when it came back, whether it was accepted) of every request."""
    now, seen, on_the_wire = 0.0, [], []
    while now < seconds:
        if limiter.free_at(now) <= now:
            limiter.send(now)
            heapq.heappush(on_the_wire, (now + latency, now))
            continue
        now = min(limiter.free_at(now), on_the_wire[0][0] if on_the_wire else math.inf)
        while on_the_wire and on_the_wire[0][0] <= now:
            back_at, sent_at = heapq.heappop(on_the_wire)
            is_accepted = server.takes(back_at)
            limiter.end()
            if is_accepted:
                limiter.accept(back_at)
            else:
                limiter.refuse(back_at, sent_at, None)
            seen.append((back_at, is_accepted))
    return seen


@pytest.mark.parametrize("server", [Bucket, Sliding, Window])
@pytest.mark.parametrize("concurrency", [4, 64])
def test_a_server_that_allows_ten_a_second_refuses_at_most_5_percent_after_ten_seconds(server, concurrency):
    seen = simulate(Limiter(concurrency), server(10), seconds=130)
    late = [is_accepted for at, is_accepted in seen if at > 10]
    assert late.count(False) <= 0.05 * len(late)
    assert late.count(True) >= 0.8 * 10 * 120


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("concurrency", [8, 64])
def test_refusals_at_random_do_not_bring_it_to_a_crawl(concurrency, share, seed):
    seen = simulate(Limiter(concurrency), Busy(share, seed), seconds=300, latency=0.4)
    late = [is_accepted for at, is_accepted in seen if at > 120]
    assert late.count(True) >= 0.6 * (1 - share) * concurrency / 0.4 * 180


@pytest.mark.parametrize("seed", range(5))
def test_a_limit_is_found_behind_refusals_at_random(seed):
    seen = simulate(Limiter(64), Busy(0.05, seed, Bucket(20)), seconds=240, latency=0.4)
    late = [is_accepted for at, is_accepted in seen if at > 60]
    assert late.count(True) >= 0.7 * 20 * 180
    assert late.count(False) <= 0.25 * len(late)


class Closed(Bucket):
    """A server that takes nothing until it opens, and then everything."""

    def __init__(self, opens_at: float) -> None:
        self.opens_at = opens_at

    def takes(self, now: float) -> bool:
        return now >= self.opens_at


def test_after_a_server_has_opened_it_is_used_within_seconds():
    seen = simulate(Limiter(32), Closed(3.0), seconds=13)
    assert sum(1 for at, is_accepted in seen if is_accepted and at < 8) >= 60
    assert sum(1 for at, is_accepted in seen if is_accepted and at > 12) >= 0.5 * 32 / 0.05


@pytest.mark.parametrize("per_second", [2, 100, 1000])
def test_other_rates_are_found_too(per_second):
    seen = simulate(Limiter(128), Bucket(per_second), seconds=100)
    late = [is_accepted for at, is_accepted in seen if at > 40]
    assert late.count(False) <= 0.05 * len(late)
    assert late.count(True) >= 0.7 * per_second * 60


def test_without_refusals_the_cap_is_used_from_the_first_request_and_nothing_is_paced():
    limiter = Limiter(32)
    for _ in range(32):
        assert limiter.free_at(0.0) <= 0.0
        limiter.send(0.0)
    assert limiter.free_at(0.0) == math.inf
    limiter.end()
    limiter.accept(0.1)
    assert limiter.free_at(0.1) <= 0.1 and limiter.pace.rate == math.inf


def test_one_burst_of_refusals_is_one_cut():
    limiter = Limiter(64)
    for _ in range(64):
        limiter.send(0.0)
    for _ in range(20):
        limiter.accept(0.1)
    for _ in range(44):
        limiter.refuse(0.1, 0.0, None)
    assert limiter.limit == pytest.approx(64 * 0.7)
    assert limiter.pace.rate == pytest.approx(20 * 0.85)
    limiter.refuse(0.5, 0.3, None)
    assert limiter.limit == pytest.approx(64 * 0.7), "the server still counts the burst"
    limiter.refuse(1.5, 1.3, None)
    assert limiter.limit == pytest.approx(64 * 0.7 * 0.7)


def test_concurrency_grows_by_one_a_round_back_to_the_cap():
    limiter = Limiter(10)
    limiter.refuse(0.0, 0.0, None)
    assert limiter.limit == pytest.approx(7)
    for _ in range(8):
        limiter.accept(1.0)
    assert limiter.limit == pytest.approx(8, abs=0.1)
    for _ in range(100):
        limiter.accept(2.0)
    assert limiter.limit == 10


def test_what_the_server_asks_to_wait_is_waited_for():
    limiter = Limiter(4)
    limiter.refuse(10.0, 9.0, 7.5)
    assert limiter.free_at(11.0) == 17.5


def test_a_configured_rate_is_never_passed():
    seen = simulate(Limiter(64, requests_per_second=5.0), Bucket(1000), seconds=60)
    assert all(is_accepted for _, is_accepted in seen)
    assert 5 * 60 - 2 <= len(seen) <= 5 * 60 + 1


def test_a_rate_that_holds_nothing_back_does_not_grow():
    pace = Pace()
    pace.refuse(0.0, 0.0)
    rate = pace.rate
    for second in range(1, 100):
        assert pace.free_at(float(second)) <= second
        pace.send(float(second))
    assert pace.rate == rate


NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3.0),
        (" 1.5 ", 1.5),
        ("0", 0.0),
        ("-5", 0.0),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("Thu, 01 Jan 2026 12:00:30 -0000", 30.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("Thu, 99 Foo 2026", None),
    ],
)
def test_retry_after_is_read_as_seconds_as_a_date_or_not_at_all(header, seconds):
    assert seconds_to_wait(header, NOW) == seconds

"""Kills: a process is killed at named moments while one call in five fails, and no answer is lost or bought twice."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from align.teachers.ledger.store import connect
from tests.teachers.ledger.kills import CONCURRENCY, PHASES, PayingServer, ask_all
from tests.teachers.server import Server

ROOT = Path(__file__).parents[3]


def rows_in(path: Path, state: str) -> list[tuple[str, str]]:
    """(row, text) of every entry in a state."""
    database = connect(path, is_read_only=True)
    try:
        found = database.execute("SELECT body, text FROM entries WHERE state = ? ORDER BY id", (state,)).fetchall()
    finally:
        database.close()
    return [(json.loads(body)["messages"][-1]["content"], text) for body, text in found]


def live(url: str, path: Path, paying: PayingServer, rows: range, phase: str, count: int) -> str:
    """One life of the process; the row at which it was killed, nothing if it came to its end."""
    words = [sys.executable, "-m", "tests.teachers.ledger.kills", url, path, rows.start, rows.stop, phase, count]
    process = subprocess.Popen(list(map(str, words)), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if phase == "on the wire":
        paying.kill_in, paying.victim = count, process.pid
    said, _ = process.communicate()
    paying.victim = 0
    if process.returncode == 0:
        return ""
    assert process.returncode == -signal.SIGKILL
    return paying.killed_at if phase == "on the wire" else said.strip()


def was_in_phase(phase: str, row: str, path: Path, paying: PayingServer) -> bool:
    """What the ledger and the server say about the row at which the process was killed."""
    is_open = row in dict(rows_in(path, "sent"))
    if phase == "intent written":
        return is_open
    if phase == "on the wire":
        return is_open and row in paying.asked
    if phase == "answered but uncommitted":
        return is_open and bool(paying.paid[row])
    return not is_open and row in dict(rows_in(path, "answered"))


def run(path: Path, num_rows: int, num_kills: int, seed: int) -> None:
    """Kill `num_kills` processes over the rows, then let one come to its end, and check everything."""
    numbers = random.Random(seed)
    paying = PayingServer(seed)
    phases = [PHASES[number % len(PHASES)] for number in range(num_kills)]
    numbers.shuffle(phases)
    kills: Counter[str] = Counter()
    recorded: dict[str, str] = {}
    num_in_flight = 0
    with Server(paying.behave) as server:
        for phase in phases:
            paying.asked = []
            first_open = next(number for number in range(num_rows) if f"row {number}" not in recorded)
            mean = num_rows / num_kills
            count = numbers.randrange(int(0.3 * mean) + 1, int(1.5 * mean))
            row = live(server.url, path, paying, range(max(0, first_open - 100), num_rows), phase, count)
            assert row, "the rows were not enough for so many kills"
            kills[phase] += was_in_phase(phase, row, path, paying)
            recorded = check_life(path, paying, recorded)
            on_the_wire = len(rows_in(path, "sent"))
            assert on_the_wire <= CONCURRENCY + CONCURRENCY // 4  # intents are written a little ahead
            num_in_flight += on_the_wire
        paying.asked = []
        answers = asyncio.run(ask_all(server.url, str(path), range(num_rows)))
        check_life(path, paying, recorded)
    check_end(path, paying, answers, num_in_flight)
    print(
        f"{num_kills} kills ({dict(kills)}), {num_rows} rows, {paying.num_requests} requests, {paying.num_faults} "
        f"faults; lost 0, changed 0, bought again 0; paid {sum(map(len, paying.paid.values()))}, unknown "
        f"{len(rows_in(path, 'unknown'))}, of them left by kills {num_in_flight}"
    )
    assert sum(kills.values()) >= 0.9 * num_kills and min(kills.values()) >= min(10, num_kills // 4 - 1)


def check_life(path: Path, paying: PayingServer, before: dict[str, str]) -> dict[str, str]:
    """Nothing recorded before this life was lost, changed or asked for in it."""
    pairs = rows_in(path, "answered")
    now = dict(pairs)
    assert len(pairs) == len(now), "an answer was recorded twice"
    assert {row: now.get(row) for row in before} == before
    assert not set(paying.asked) & set(before)
    return now


def check_end(path: Path, paying: PayingServer, answers: dict[str, str], num_in_flight: int) -> None:
    """Every row has an answer that was paid for, and what was paid for beyond that is listed as unknown."""
    assert dict(rows_in(path, "answered")) == answers
    assert all(answer in paying.paid[row] for row, answer in answers.items())
    unknown = Counter(row for row, _ in rows_in(path, "unknown"))
    extra = {row: len(texts) - 1 for row, texts in paying.paid.items()}
    assert all(unknown[row] >= number for row, number in extra.items())
    database = connect(path, is_read_only=True)
    try:
        (left_by_kills,) = database.execute("SELECT count(*) FROM entries WHERE reason = 'killed'").fetchone()
    finally:
        database.close()
    assert left_by_kills == num_in_flight
    assert not rows_in(path, "sent")


def test_eight_kills_over_four_hundred_rows_lose_nothing_and_buy_nothing_twice(tmp_path):
    run(tmp_path / "ledger.sqlite", num_rows=400, num_kills=8, seed=1)


@pytest.mark.slow
def test_two_hundred_kills_over_twenty_thousand_rows_lose_nothing_and_buy_nothing_twice(tmp_path):
    run(tmp_path / "ledger.sqlite", num_rows=20_000, num_kills=200, seed=2)

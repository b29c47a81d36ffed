"""Teacher: requests per second and CPU of the endpoint teacher, ledger on, beside a bare aiohttp loop.

    python benchmarks/teacher.py [--check]

The server is a process of its own that answers after a fixed time, in one case 20 times as long for 5 % of the replies.
Both arms run in turns in one process; medians. Floors: 0.8 of the bare loop's requests/s, 1 CPU second per 1,000
requests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

FLOOR_SHARE, CEILING_CPU = 0.8, 1.0
SAMPLING = {"temperature": 0.7, "top_p": 1.0, "max_tokens": 256, "seed": 0}
TEXT = "The river carries small stones and sand down to the wide plains. " * 8


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    in_flight: int
    latency_s: float
    slow_share: float
    num_requests: int


@dataclass(frozen=True)
class Timing:
    """One run of one arm."""

    per_second: float
    cpu_s_per_1000: float


class Answering(asyncio.Protocol):
    """Answers every request of a connection after the time that its prompt names."""

    BODY = json.dumps(
        {
            "model": "m",
            "choices": [{"message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 40, "completion_tokens": 120},
        }
    ).encode()
    REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, _, body = self.received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        if head and len(body) >= length > 0:
            self.received = b""
            self.answer(body)

    def answer(self, body: bytes) -> None:
        delay_s = float(body.partition(b"wait ")[2].partition(b" ")[0])
        asyncio.get_running_loop().call_later(delay_s, self.transport.write, self.REPLY)


async def serve(protocol: Callable[[], asyncio.Protocol] = Answering) -> None:
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def prompts(case: Case, name: str) -> list[str]:
    """Every prompt is another one, and names its own latency."""
    step = round(1 / case.slow_share) if case.slow_share else case.num_requests + 1
    waits = [case.latency_s * (20 if number % step == step - 1 else 1) for number in range(case.num_requests)]
    return [f"wait {wait} s {name} {number}" for number, wait in enumerate(waits)]


async def ask_bare(case: Case, url: str, texts: list[str], folder: Path) -> int:
    """What one would write by hand: a semaphore and a session."""
    import aiohttp

    slots = asyncio.Semaphore(case.in_flight)

    async def one(session: aiohttp.ClientSession, text: str) -> str:
        body = {"model": "m", "messages": [{"role": "user", "content": text}], **SAMPLING}
        async with slots, session.post(f"{url}/chat/completions", json=body) as response:
            return str((await response.json())["choices"][0]["message"]["content"])

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        answers = await asyncio.gather(*(one(session, text) for text in texts))
    return sum(answer == TEXT for answer in answers)


async def ask_teacher(case: Case, url: str, texts: list[str], folder: Path) -> int:
    from align.data.rows.message import Message
    from align.teachers.base import Sampling
    from align.teachers.endpoint.provider import Place
    from align.teachers.endpoint.teacher import EndpointTeacher
    from align.teachers.ledger.ledger import Ledger

    async with Ledger.open(folder / "ledger.sqlite") as ledger:
        teacher = EndpointTeacher(Place("t", "m", (url,)), ledger, concurrency=case.in_flight)
        sampling = Sampling(**SAMPLING)
        found = await asyncio.gather(*(teacher.complete((Message("user", text),), sampling) for text in texts))
        await teacher.aclose()
    return sum(answers[0].text == TEXT.strip() for answers in found)


Arm = Callable[[Case, str, list[str], Path], Awaitable[int]]


def measure(arm: Arm, case: Case, url: str, name: str) -> Timing:
    texts = prompts(case, name)
    with tempfile.TemporaryDirectory() as folder:
        start, cpu = time.perf_counter(), time.process_time()
        num_right = asyncio.run(_as_coroutine(arm(case, url, texts, Path(folder))))
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    if num_right != len(texts):
        raise SystemExit(f"{arm.__name__}: every answer must be right, but {len(texts) - num_right} are not")
    return Timing(len(texts) / seconds, cpu / len(texts) * 1000)


async def _as_coroutine(waiting: Awaitable[int]) -> int:
    return await waiting


def compare(case: Case, url: str, num_rounds: int) -> tuple[float, float]:
    """(share of the bare loop's requests/s, CPU seconds per 1,000 requests); prints the row."""
    arms: dict[Arm, list[Timing]] = {ask_bare: [], ask_teacher: []}
    for number in range(num_rounds):
        for arm, timings in arms.items():
            timings.append(measure(arm, case, url, f"round {number}"))
    bare, ours = ([one.per_second for one in timings] for timings in arms.values())
    share = median(mine / theirs for mine, theirs in zip(ours, bare, strict=True))
    cpu, bare_cpu = (median(one.cpu_s_per_1000 for one in arms[arm]) for arm in (ask_teacher, ask_bare))
    slow = f"{case.slow_share:.0%} 20x slower" if case.slow_share else "all alike"
    print(
        f"| {case.in_flight} at {case.latency_s * 1000:.0f} ms, {slow} | {median(bare):.0f} | {median(ours):.0f} "
        f"| {share:.2f} | {bare_cpu:.2f} | {cpu:.2f} |",
        flush=True,
    )
    return share, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fewer requests; exit 1 below a floor")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve())
    num_requests, num_rounds = (600 if arguments.check else 2000), 3
    shapes = [(50, 0.05, 0.0), (200, 0.25, 0.0), (50, 0.05, 0.05), (200, 0.25, 0.05)]
    server = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        warm_up = Case(50, 0.01, 0.0, 200)
        for arm in (ask_bare, ask_teacher):
            measure(arm, warm_up, url, "warm up")
        print(
            "| in flight | bare, requests/s | teacher, requests/s | share | bare, CPU s/1,000 | teacher, CPU s/1,000 |"
        )
        print("|---|---|---|---|---|---|")
        found = [compare(Case(*shape, num_requests), url, num_rounds) for shape in shapes]
    finally:
        server.terminate()
        server.wait()
    share, cpu = min(share for share, _ in found), max(cpu for _, cpu in found)
    print(f"at least {share:.2f} of a bare loop's requests/s, at most {cpu:.2f} CPU s per 1,000 requests")
    raise SystemExit(1 if share < FLOOR_SHARE or cpu > CEILING_CPU else 0)


if __name__ == "__main__":
    main()

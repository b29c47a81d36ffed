"""Child: checks that could hang, crash or eat all memory run in a process of their own, against a wall clock.

One child serves one reward for as long as the reward lives. It is a fresh interpreter, not a fork: it shares no CUDA
context, no threads and no signal handlers with the training process. What it cannot finish has no score (None).
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

from align.errors import AlignError, ConfigError, DataError

START_S = 300.0
"""Seconds in which a child must have imported its libraries; a cold network disk takes minutes."""
_CODE = "import sys; sys.path[:] = sys.argv[3:]; from align.rewards._child_main import main; main(*sys.argv[1:3])"
_STOPS: dict[str, type[AlignError]] = {"ConfigError": ConfigError, "DataError": DataError}


class Reply(NamedTuple):
    """What became of one request; exactly one field is set."""

    score: float | None = None
    problem: str | None = None
    """Why there is no score."""
    stop: AlignError | None = None
    """What is wrong with the row or the set-up, so that no completion can be scored."""


class ChildChecker:
    """Scores requests in a child process, one after the other, several a round trip.

    It may be asked from event loops and from threads at once: one thread owns the child. A child that takes longer
    than `timeout_s` for one request, or dies, is replaced by a new one, and the requests behind that one are scored.
    """

    def __init__(self, name: str, make_check: str, timeout_s: float) -> None:
        """`make_check` is `package.module:function`; the function returns the check, a function of one request.

        Raises:
            ConfigError: `timeout_s`, seconds a request, is not positive.
        """
        if not timeout_s > 0:
            raise ConfigError(f"{name}: timeout_s must be greater than 0 (seconds a completion), is {timeout_s!r}")
        self.name = name
        self.num_timeouts = 0
        """Requests so far that took too long."""
        self.num_failed = 0
        """Requests so far at which the child died or the check raised."""
        self._child = _Child(make_check, timeout_s)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._finalizer = weakref.finalize(self, self._child.end)

    async def scores(self, requests: Sequence[Any], log_metric: Any = None) -> list[float | None]:
        """One score a request, None where there is none; requests are JSON values.

        `log_metric` is TRL's: the number of requests without a score then stands among the metrics of the step.

        Raises:
            DataError, ConfigError: as the check raises them.
        """
        return self._counted(await asyncio.wrap_future(self._submit(requests)), log_metric)

    def scores_now(self, requests: Sequence[Any]) -> list[float | None]:
        """As `scores`, for a caller without an event loop."""
        return self._counted(self._submit(requests).result())

    def close(self) -> None:
        """End the child; the next request starts a new one. It also ends with the reward, and with this process."""
        self._thread.submit(self._child.end).result()

    def _submit(self, requests: Sequence[Any]) -> Future[list[Reply]]:
        return self._thread.submit(_all_replies, self._child.replies, list(requests))

    def _counted(self, replies: list[Reply], log_metric: Any = None) -> list[float | None]:
        for reply in replies:
            if reply.stop is not None:
                raise reply.stop
        for problem in (reply.problem for reply in replies if reply.problem is not None):
            is_timeout = problem.startswith(_TOO_LONG)
            self.num_timeouts += is_timeout
            self.num_failed += not is_timeout
            total = self.num_timeouts + self.num_failed
            if total & (total - 1) == 0:  # the 1st, 2nd, 4th, 8th …, so that a log stays readable
                text = f"{self.name}: a completion has no score (None): {problem}; {total} so far"
                print(text, file=sys.stderr, flush=True)
        if log_metric is not None:
            log_metric(f"{self.name}/no_score", float(sum(reply.problem is not None for reply in replies)))
        return [reply.score for reply in replies]


_TOO_LONG = "it took longer than"


def _all_replies(replies: Callable[[list[Any]], list[Reply]], requests: list[Any]) -> list[Reply]:
    """Ask on behind each request that ended a child."""
    found: list[Reply] = []
    while len(found) < len(requests):
        found += replies(requests[len(found) :])
    return found


class _Child:
    """The process, while there is one. One thread uses it."""

    def __init__(self, make_check: str, timeout_s: float) -> None:
        self._make_check = make_check
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._owner = 0

    def replies(self, requests: list[Any]) -> list[Reply]:
        """In order; the last one is a problem when that request ended the child, and those behind it are missing."""
        process = self._process or self._start()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(requests).encode() + b"\n")
            process.stdin.flush()
        except OSError:  # it died while idle, killed for memory say; the reader says so below
            pass
        found: list[Reply] = []
        while len(found) < len(requests):
            try:
                line = self._lines.get(timeout=self._timeout_s)
            except queue.Empty:
                self.end()
                return [*found, Reply(problem=f"{_TOO_LONG} {self._timeout_s:g} s")]
            if line is None:
                code = process.wait()
                self.end()
                return [*found, Reply(problem=f"its child process died (exit code {code})")]
            found.append(_read(line))
        return found

    def end(self) -> None:
        """Kill the child, which keeps nothing, and take its exit code, so that no zombie is left."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():  # a fork has the object but not the child
            process.kill()
            process.wait()
            with suppress(OSError):  # what it did not read any more
                process.stdin.close()  # type: ignore[union-attr]  # a pipe

    def _start(self) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", _CODE, self._make_check, str(self._timeout_s), *sys.path]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        lines: queue.Queue[bytes | None] = queue.Queue()
        threading.Thread(target=_read_lines, args=(process, lines), daemon=True).start()
        self._process, self._lines, self._owner = process, lines, os.getpid()
        try:
            is_ready = lines.get(timeout=START_S) is not None
        except queue.Empty:
            is_ready = False
        if not is_ready:
            self.end()
            raise ConfigError(f"{self._make_check}: its child process did not start; what it printed stands above")
        return process


def _read_lines(process: subprocess.Popen[bytes], lines: queue.Queue[bytes | None]) -> None:
    """Lines as they come, None at the end. A thread of its own, since Windows has no other wait on a pipe."""
    assert process.stdin is not None and process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    process.stdout.close()
    lines.put(None)


def _read(line: bytes) -> Reply:
    values = json.loads(line)
    if "stop" in values:
        kind, text = values["stop"]
        return Reply(stop=_STOPS[kind](text))
    return Reply(values.get("score"), values.get("problem"))

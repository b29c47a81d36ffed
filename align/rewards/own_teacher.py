"""Own teacher: a teacher that a reward asks where nobody holds a ledger open, in GRPO for example.

An event loop in a thread of its own holds ledger and connections, so that the teacher can be asked from whichever loop
the trainer has. Teachers with the same ledger file share that thread, since one writer at a time may open a ledger.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from align.data.rows.message import Message
from align.errors import ConfigError
from align.teachers.base import Completion, Sampling, Teacher
from align.teachers.ledger.budget import Budget
from align.teachers.ledger.ledger import Ledger
from align.teachers.settings import TeacherSettings

T = TypeVar("T")


class OwnTeacher:
    """A teacher with a ledger of its own. It is made at the first call, and closed with the process at the latest."""

    def __init__(self, settings: TeacherSettings, ledger: str, budget: float | None = None) -> None:
        """`budget`: the most that calls recorded in this file may cost, by all processes so far."""
        self.name = settings.answers_as if settings.is_endpoint else f"local:{settings.model}"
        self._settings = settings
        self._path = ledger_of_rank(Path(ledger))
        self._budget = budget
        self._home: _Home | None = None
        self._teacher: Teacher | None = None

    async def complete(self, messages: Sequence[Message], sampling: Sampling, n: int = 1) -> list[Completion]:
        """Draw `n` completions, each from the ledger where it stands there; from any event loop.

        Raises:
            ConfigError: the ledger is open with another budget in this process, or the teacher cannot be made.
            RefusedError: another process is writing into the ledger.
            AnswerError, AuthError, BudgetError, UnreachableError: as the teacher raises them.
        """
        if self._home is None:
            self._home = _Home.at(self._path, self._budget)
        return await asyncio.wrap_future(self._home.submit(self._complete(messages, sampling, n)))

    async def aclose(self) -> None:
        """Close the teacher, and the ledger when no other teacher uses it."""
        home, self._home = self._home, None
        if home is not None:
            if self._teacher is not None:
                await asyncio.wrap_future(home.submit(self._teacher.aclose()))
                home.teachers.remove(self._teacher)
                self._teacher = None
            await asyncio.to_thread(home.leave)

    async def _complete(self, messages: Sequence[Message], sampling: Sampling, n: int) -> list[Completion]:
        """On the home's loop, so that no two calls make the teacher."""
        assert self._home is not None
        if self._teacher is None:
            self._teacher = self._settings.make(self._home.ledger)
            self._home.teachers.append(self._teacher)
        return await self._teacher.complete(messages, sampling, n)


def ledger_of_rank(path: Path) -> Path:
    """Each process of a training run writes into a file of its own: `ledger.sqlite`, `ledger.rank1.sqlite` …"""
    rank = int(os.environ.get("RANK", "0"))
    return path.with_name(f"{path.stem}.rank{rank}{path.suffix}") if rank else path


class _Home:
    """An open ledger and the event loop that it lives on."""

    _all: dict[Path, _Home] = {}  # noqa: RUF012  # one for all, on purpose
    _lock = threading.Lock()

    def __init__(self, path: Path, budget: float | None) -> None:
        self.path = path
        self.budget = budget
        self.num_users = 0
        self.teachers: list[Teacher] = []
        self.ledger = Ledger.open(path, run="reward", budget=Budget(budget))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"reward {path.name}", daemon=True)
        self._thread.start()

    @classmethod
    def at(cls, path: Path, budget: float | None) -> _Home:
        """The home of a file, opened where it is not yet."""
        with cls._lock:
            home = cls._all.get(path.absolute())
            if home is None:
                home = cls._all[path.absolute()] = cls(path, budget)
            elif home.budget != budget:
                raise ConfigError(
                    f"ledger {path}: rewards that share a ledger must have one budget, but have {home.budget} and "
                    f"{budget}"
                )
            home.num_users += 1
            return home

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the home's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def leave(self) -> None:
        """One user less; the last one closes all."""
        with self._lock:
            self.num_users -= 1
            if self.num_users == 0:
                del self._all[self.path.absolute()]
                self.close()

    def close(self, is_exit: bool = False) -> None:
        """Wait for what is on the wire, close teachers and ledger, and end the thread."""
        if is_exit:
            self._loop.call_soon_threadsafe(self._loop.set_default_executor, _AtOnce())
        self.submit(self._close()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        for teacher in self.teachers:
            await teacher.aclose()
        await self.ledger.aclose()


class _AtOnce(ThreadPoolExecutor):
    """Runs work at once, in the caller's thread: while Python exits it starts no more threads, not for `to_thread`."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@atexit.register
def _close_all() -> None:
    for home in list(_Home._all.values()):
        home.close(is_exit=True)
    _Home._all.clear()

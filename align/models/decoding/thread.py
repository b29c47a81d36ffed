"""Decode thread: keeps a batch full from a queue of requests, off the event loop, until it is closed."""

from __future__ import annotations

import atexit
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from align.errors import AlignError

if TYPE_CHECKING:
    from align.models.decoding.batch import DecodeBatch, Row


@dataclass
class DecodeStats:
    """What the thread has done so far."""

    batch_size: int
    tokens: int = 0
    """Drawn, end tokens included."""
    steps: int = 0
    """Forwards that drew one token for each row; encoding prompts is not counted."""
    seconds: float = 0.0
    """Of work, prompts included; loading and waiting for calls are not counted."""

    @property
    def mean_fill(self) -> float:
        """Share of the batch that was in use, averaged over the steps; 0 before the first."""
        return self.tokens / (self.steps * self.batch_size) if self.steps else 0.0


class Request(Protocol):
    """What somebody waits for; only the voice knows what else it holds."""

    @property
    def future(self) -> Future[Any]:
        """Gets what the voice makes of the finished row, or the error."""
        ...


R = TypeVar("R", bound=Request)
Read = TypeVar("Read", bound=Request, contravariant=True)


class Voice(Protocol[Read]):
    """A loaded model: what the thread needs to know about text."""

    batch: DecodeBatch

    def begin(self, request: Read) -> Row:
        """Raises AlignError if this one request cannot be answered."""
        ...

    def finish(self, row: Row) -> Any:
        """What the request's future gets."""
        ...


class DecodeThread(Generic[R]):
    """A thread that loads a voice at the first request. Whatever goes wrong in it reaches every caller."""

    def __init__(self, name: str, batch_size: int, load: Callable[[], Voice[R]]) -> None:
        self.stats = DecodeStats(batch_size)
        self._name = name
        self._load = load
        self._waiting: deque[R] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._end: BaseException | None = None
        """Set once no further request will be answered."""

    def submit(self, requests: Sequence[R]) -> None:
        """Queue requests; first come, first served. Each future gets its answer, or the error."""
        with self._changed:
            if self._end is not None:
                raise self._end
            self._waiting.extend(requests)
            if self._thread is None:
                # A daemon, so that a forgotten close hangs nobody; ended at exit, since one that is inside a forward
                # while the interpreter goes down crashes it.
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
                atexit.register(self.close)
            self._changed.notify()

    def close(self) -> None:
        """End the thread after its present step and free the model. Waiting requests fail with RuntimeError."""
        with self._changed:
            self._end = self._end or RuntimeError(f"{self._name}: was closed before the answer was finished")
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
        atexit.unregister(self.close)

    def _work(self) -> None:
        rows: list[Row] = []
        try:
            voice = self._load()
            rows = voice.batch.rows
            while self._wait_for_work(voice.batch):
                start = time.perf_counter()
                self._admit(voice)
                self._step(voice)
                self.stats.seconds += time.perf_counter() - start
                rows = voice.batch.rows
        except BaseException as error:
            self._end = error
        with self._changed:
            left = [row.future for row in rows] + [request.future for request in self._waiting]
            self._waiting.clear()
        assert self._end is not None
        for future in left:
            _fail(future, self._end)

    def _wait_for_work(self, batch: DecodeBatch) -> bool:
        """False once the thread shall end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or batch.rows or self._end is not None)
            return self._end is None

    def _admit(self, voice: Voice[R]) -> None:
        """Fill the places of the batch that are free, once an eighth is: prompts are encoded faster together."""
        free = self.stats.batch_size - len(voice.batch.rows)
        if free < min(len(self._waiting), self.stats.batch_size // 8):
            return
        joining: list[Row] = []
        while len(voice.batch.rows) + len(joining) < self.stats.batch_size and self._waiting:
            request = self._waiting.popleft()
            if request.future.cancelled():
                continue
            try:
                joining.append(voice.begin(request))
            except AlignError as error:
                _fail(request.future, error)
        if joining:
            voice.batch.admit(joining)

    def _step(self, voice: Voice[R]) -> None:
        """Draw one token for each row, and hand out what is finished."""
        if not voice.batch.rows:
            return
        voice.batch.step()
        self.stats.steps += 1
        self.stats.tokens += len(voice.batch.rows)
        leaving = [row for row in voice.batch.rows if row.is_finished or row.future.cancelled()]
        for row in leaving:
            if row.is_finished:
                _answer(row.future, voice.finish(row))
        voice.batch.remove(leaving)


def _answer(future: Future[Any], answer: Any) -> None:
    try:
        future.set_result(answer)
    except InvalidStateError:
        """The caller gave up in the meantime."""


def _fail(future: Future[Any], error: BaseException) -> None:
    try:
        future.set_exception(error)
    except InvalidStateError:
        """The caller gave up in the meantime."""

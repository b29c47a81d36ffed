"""Ranks: the processes of one run, and what they tell each other.

A run that no launcher started is one rank, for which every method here is trivial.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from align.errors import AlignError, RankLostError, RefusedError
from align.store.records import differences

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

_PATIENCE_TO_JOIN = timedelta(minutes=10)
"""How long to wait for a rank that has not been started yet; nodes may be started by hand."""
_PATIENCE = timedelta(seconds=60)
"""How long the pre-flight waits for a rank that has joined."""
_LAST_WORD = "last word"


@dataclass(frozen=True)
class Ranks:
    """This process among those of its run."""

    rank: int = 0
    world_size: int = 1
    backend: str = "none"
    """`gloo` or `nccl`; `none` without a launcher."""
    group: Any = None
    """A gloo group for what is said here, so that a late rank never disturbs the gradients' collectives."""
    store: Any = None
    """Where a rank leaves word of why it ends, for those that then lose their connection to it."""

    @classmethod
    def join(cls, patience: timedelta = _PATIENCE_TO_JOIN) -> Ranks:
        """Join the processes that a launcher (`deepspeed`, `torchrun`) started; alone without one.

        Raises:
            RefusedError: naming the ranks that have not come in time.
        """
        if not was_launched():
            return cls()
        store = _meet(patience)
        if not dist.is_initialized():
            _init("nccl" if torch.cuda.is_available() else "gloo")
        group = dist.new_group(backend="gloo", timeout=timedelta(minutes=30))
        return cls(dist.get_rank(), dist.get_world_size(), dist.get_backend(), group, store)

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes."""
        return self.rank == 0

    @property
    def name(self) -> str:
        """As messages name it."""
        return f"rank {self.rank} on {socket.gethostname()}"

    def agree(self, make_report: Callable[[], dict[str, Any]], patience: timedelta = _PATIENCE) -> dict[str, Any]:
        """The pre-flight: every rank makes a report, and all must be equal.

        Args:
            patience: how long to wait for the last rank to begin; making the report may then take longer.

        Raises:
            RefusedError: on every rank, naming the rank that is missing, that failed or that differs. What fails on
                all of them alike is raised as it is.
        """
        if self.world_size == 1:
            return make_report()
        self._wait_for_all(patience)
        failure: Exception | None = None
        report: dict[str, Any] = {}
        try:
            report = make_report()
        except Exception as error:  # told to the others, then raised
            failure = error
        text = str(failure) if isinstance(failure, AlignError) else failure and repr(failure)
        said = self.gather((self.name, text, report))
        failures = [f"{name}: {text}" for name, text, _ in said if text is not None]
        if failure is not None and (not isinstance(failure, AlignError) or {t for _, t, _ in said} == {text}):
            raise shared(failure)
        if failures:
            raise shared(RefusedError("\n".join(failures)))
        lines = [
            f"{name} is not set up as {said[0][0]} is; make these equal:\n  " + "\n  ".join(difference)
            for name, _, other in said[1:]
            if (difference := differences(said[0][2], other))
        ]
        if lines:
            raise shared(RefusedError("\n".join(lines)))
        return report

    def _wait_for_all(self, patience: timedelta) -> None:
        try:
            dist.monitored_barrier(self.group, timeout=patience, wait_all_ranks=True)
        except RuntimeError as error:
            named = re.search(r"Ranks ([\d, ]+) failed", str(error))
            missing = f"rank {named[1].strip()}" if named else "a rank that rank 0 names"
            raise RefusedError(
                f"{self.name}: {missing} joined, but did not begin the pre-flight within {patience.total_seconds():g} s"
            ) from error

    def first(self, make: Callable[[], T]) -> T:
        """What rank 0 makes, on every rank; its error is every rank's error."""
        if self.world_size == 1:
            return make()
        outcome: tuple[T | None, AlignError | None] = (None, None)
        if self.is_first:
            try:
                outcome = (make(), None)
            except AlignError as error:
                outcome = (None, error)
        said = [outcome]
        self._talk(lambda: dist.broadcast_object_list(said, src=0, group=self.group))
        made, failure = said[0]
        if failure is not None:
            raise shared(failure)
        return made  # type: ignore[return-value]  # made by `make`

    def gather(self, said: T) -> list[T]:
        """What every rank says, in their order, on every rank."""
        if self.world_size == 1:
            return [said]
        everything: list[Any] = [None] * self.world_size
        self._talk(lambda: dist.all_gather_object(everything, said, group=self.group))
        return everything

    def maximum(self, *values: int) -> list[int]:
        """The largest of each value over all ranks."""
        if self.world_size == 1:
            return list(values)
        tensor = torch.tensor(values)
        self._talk(lambda: dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self.group))
        return [int(value) for value in tensor]

    def _talk(self, collective: Callable[[], Any]) -> None:
        try:
            collective()
        except RuntimeError as error:
            raise self.lost(error) from error

    def leave_word(self, error: BaseException) -> None:
        """Say why this rank ends, for those that wait for it; the first to say so is heard."""
        if self.store is None or isinstance(error, RankLostError):
            return
        code = error.exit_code if isinstance(error, AlignError) else 1
        text = (str(error) or type(error).__name__).splitlines()[0]
        word = text if text.startswith(self.name) else f"{self.name}: {text}"
        with suppress(RuntimeError):  # the store is gone with rank 0
            self.store.compare_set(_LAST_WORD, "", json.dumps([code, word]))

    def lost(self, error: BaseException) -> RankLostError:
        """The error of a rank that lost its connection to another: with that one's reason if it left word."""
        with suppress(RuntimeError):
            if self.store is not None and self.store.check([_LAST_WORD]):
                code, word = json.loads(self.store.get(_LAST_WORD))
                told = shared(RankLostError(f"another process ended this run: {word} (its own output says more)"))
                told.exit_code = code
                return told
        first_line = re.sub(r"^\[\S*\] ", "", str(error).splitlines()[0]).split(". This is")[0]
        return RankLostError(
            f"{self.name}: another process of this run is gone ({first_line}); it was killed or its machine is lost; "
            "the same command goes on from the last checkpoint"
        )


def leave(is_failing: bool) -> None:
    """Close the connections between processes, where there are any, so that the others notice at once.

    NCCL's are left open when something failed: closing them could wait for a collective that never ends.
    """
    if dist.is_initialized() and not (is_failing and dist.get_backend() == "nccl"):
        dist.destroy_process_group()


def was_launched() -> bool:
    """Whether a launcher started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def _meet(patience: timedelta) -> Any:
    """Wait until every rank has come; returns the store that they share.

    torch's own rendezvous waits for 30 minutes and does not say for whom.
    """
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    is_host = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    if rank == 0:
        print(f"  waiting for {world_size} processes at {host}:{port}", flush=True)
    missing = [0]
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]  # torch does not declare them

    try:
        server = TCPStore(host, port, None, is_host, patience, wait_for_workers=False, multi_tenant=True)
        store = PrefixStore(f"align/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", server)
        store.set(f"rank {rank}", "is here")
        ends = time.monotonic() + patience.total_seconds()
        while missing := [other for other in range(world_size) if not store.check([f"rank {other}"])]:
            if time.monotonic() > ends:
                raise TimeoutError
            time.sleep(0.1)
    except (RuntimeError, TimeoutError) as error:
        raise RefusedError(
            f"rank {rank} on {socket.gethostname()}: rank {', '.join(map(str, missing))} of {world_size} did not come "
            f"to {host}:{port} within {patience.total_seconds():g} s {error}".rstrip()
        ) from error
    return store


def shared(error: E) -> E:
    """Every rank raises it."""
    if isinstance(error, AlignError):
        error.is_shared = True
    return error


def _init(backend: str) -> None:
    """DeepSpeed must know the process group before TRL's arguments are built, or it sees a world of one."""
    import deepspeed

    deepspeed.utils.logger.setLevel("WARNING")  # its memory reports would bury ours
    if backend == "gloo":
        # Else every start compiles a shared-memory all-reduce (half a minute), and a kill during that leaves a lock
        # for which all later starts wait.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(backend, verbose=False)

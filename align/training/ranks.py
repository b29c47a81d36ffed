"""Ranks: the processes of one run, and what they tell each other.

A run that no launcher started is one rank, for which every method here is trivial.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from align.errors import AlignError, RankLostError, RefusedError
from align.runs import differences

T = TypeVar("T")

_PATIENCE = timedelta(seconds=60)
"""How long the pre-flight waits for a rank that has joined."""


@dataclass(frozen=True)
class Ranks:
    """This process among those of its run."""

    rank: int = 0
    world_size: int = 1
    backend: str = "none"
    """`gloo` or `nccl`; `none` without a launcher."""
    group: Any = None
    """A gloo group for what is said here, so that a late rank never disturbs the gradients' collectives."""

    @classmethod
    def join(cls) -> Ranks:
        """Join the processes that a launcher (`deepspeed`, `torchrun`) started; alone without one."""
        if not was_launched():
            return cls()
        if not dist.is_initialized():
            backend = "nccl" if torch.cuda.is_available() else "gloo"
            if int(os.environ["RANK"]) == 0:
                where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
                print(f"  waiting for {os.environ['WORLD_SIZE']} processes at {where}", flush=True)
            _init(backend)
        group = dist.new_group(backend="gloo", timeout=timedelta(minutes=30))
        return cls(dist.get_rank(), dist.get_world_size(), dist.get_backend(), group)

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes."""
        return self.rank == 0

    @property
    def name(self) -> str:
        """As messages name it."""
        return f"rank {self.rank} on {socket.gethostname()}"

    def agree(self, make_report: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The pre-flight: every rank makes a report, and all must be equal.

        Raises:
            RefusedError: on every rank, naming the rank that is missing, that failed or that differs.
        """
        failure = None
        report: dict[str, Any] = {}
        try:
            report = make_report()
        except AlignError as error:
            if self.world_size == 1:
                raise
            failure = f"{type(error).__name__}: {error}"
        if self.world_size == 1:
            return report
        try:
            dist.monitored_barrier(self.group, timeout=_PATIENCE, wait_all_ranks=True)
        except RuntimeError as error:
            raise RefusedError(f"not every process got as far as the first step: {error}") from error
        said = self.gather((self.name, failure, report))
        failures = [f"{name}: {text}" for name, text, _ in said if text]
        if failures:
            raise RefusedError("\n".join(failures))
        for name, _, other in said[1:]:
            difference = differences(said[0][2], other)
            if difference:
                lines = "\n  ".join(difference)
                raise RefusedError(f"{name} is not set up as {said[0][0]} is; make these equal:\n  {lines}")
        return report

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
            raise failure
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
            raise RankLostError(
                f"{self.name}: another process of this run is gone ({str(error).splitlines()[0]}); "
                "the same command goes on from the last checkpoint"
            ) from error


def was_launched() -> bool:
    """Whether a launcher started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def _init(backend: str) -> None:
    """DeepSpeed must know the process group before TRL's arguments are built, or it sees a world of one."""
    import deepspeed

    deepspeed.init_distributed(backend, verbose=False)

"""Explain: turns what a library raised in the middle of a run into an error that says what to do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from align.errors import AlignError, ConfigError, RankLostError, RefusedError

if TYPE_CHECKING:
    from align.training.guard import Guard
    from align.training.ranks import Ranks

_OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|DefaultCPUAllocator", re.IGNORECASE)
_RANK_LOST = re.compile(r"connection (closed|reset|refused)|broken pipe|NCCL error|remote process", re.IGNORECASE)


def explain(error: BaseException, ranks: Ranks, guard: Guard | None) -> BaseException:
    """The error to raise: the same one, or one of ours with what to do."""
    if isinstance(error, AlignError) or not isinstance(error, Exception):
        return error
    full = guard.storage_error(error) if guard is not None else None
    if full is not None:
        return full
    text = str(error)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(text)):
        return RefusedError(
            f"out of memory: {text.splitlines()[0] if text else 'the machine has no more'}\n"
            "What takes less, in the order to try: halve trainer.per_device_train_batch_size and double "
            "trainer.gradient_accumulation_steps; trainer.gradient_checkpointing=true; a smaller trainer.max_length "
            "with data.on_bad_rows=drop; lora: instead of full training; zero.stage=2, then 3, then "
            "zero.offload=optimizer. The same command then goes on from the last checkpoint with resume=anyway."
        )
    if ranks.world_size > 1 and isinstance(error, RuntimeError) and _RANK_LOST.search(text):
        return RankLostError(
            f"{ranks.name}: another process of this run is gone ({text.splitlines()[0]}); the same command goes on "
            "from the last checkpoint"
        )
    if isinstance(error, ValueError) and "correct the following DeepSpeed config" in text:
        return ConfigError(f"zero: the DeepSpeed file contradicts the trainer section:\n{text}")
    return error

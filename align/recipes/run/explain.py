"""Explain: turns what a library raised in the middle of a run into an error that says what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pickle import UnpicklingError
from typing import TYPE_CHECKING

from align.errors import AlignError, ConfigError, RefusedError

if TYPE_CHECKING:
    from align.recipes.run.recipe import RunnableRecipe
    from align.training.loop.guard import Guard

_OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|cannot allocate memory", re.IGNORECASE)
_RANK_LOST = re.compile(
    r"connection (was )?(closed|reset|refused)|broken pipe|NCCL error|remote process|Timed out waiting", re.IGNORECASE
)


def explain(error: BaseException, recipe: RunnableRecipe, guard: Guard | None) -> BaseException:
    """The error to raise: the same one, or one of ours with what to do."""
    if isinstance(error, AlignError) or not isinstance(error, Exception):
        return error
    full = guard.storage_error(error) if guard is not None else None
    if full is not None:
        return full
    text = str(error)
    if isinstance(error, MemoryError) or (isinstance(error, (RuntimeError, OSError)) and _OUT_OF_MEMORY.search(text)):
        first_line = (text or "the machine has no more").splitlines()[0]
        advice = "".join(f"\n  {line}" for line in _what_takes_less(recipe))
        return RefusedError(
            f"{recipe.ranks.name}: out of memory: {first_line}\nWhat takes less, in the order to try:{advice}\n"
            "A checkpoint that was saved is whole; add resume=anyway to go on from it with other settings."
        )
    if recipe.ranks.world_size > 1 and isinstance(error, RuntimeError) and _RANK_LOST.search(text):
        return recipe.ranks.lost(error)
    if isinstance(error, UnpicklingError) and guard is not None and guard.resumed_from is not None:
        return RefusedError(
            f"{guard.resumed_from.path}: holds more than tensors and numbers, so nothing in it was loaded or "
            "run; somebody has changed it. Move the folder away, and the same command goes on from the one before."
        )
    if isinstance(error, ValueError) and "correct the following DeepSpeed config" in text:
        return ConfigError(f"zero: the DeepSpeed file contradicts the trainer section:\n{text}")
    return error


def _what_takes_less(recipe: RunnableRecipe) -> Iterator[str]:
    """Settings to change in this run, each with its value now."""
    settings, trainer = recipe.settings, recipe.settings.trainer
    batch = trainer.get("per_device_train_batch_size", 8)
    accumulation = trainer.get("gradient_accumulation_steps", 1)
    if batch > 1:
        yield (
            f"trainer.per_device_train_batch_size={batch // 2} (now {batch}) with "
            f"trainer.gradient_accumulation_steps={-(-accumulation * batch // (batch // 2))} (now {accumulation})"
        )
    if batch > 1 and getattr(settings, "tokens_per_forward", 0) is None:
        yield f"tokens_per_forward={4 * recipe.tokens.longest} (now none), which cuts a batch where it is long"
    if settings.eval_data and (evaluated := trainer.get("per_device_eval_batch_size", 8)) > 1:
        yield f"trainer.per_device_eval_batch_size={evaluated // 2} (now {evaluated}), if it was while evaluating"
    if not trainer.get("gradient_checkpointing", True):
        yield "trainer.gradient_checkpointing=true (now false)"
    yield f"a trainer.max_length below {trainer.get('max_length', 1024)} with data.on_bad_rows=drop"
    if settings.compute == "float32":
        yield "compute=bfloat16 (now float32)"
    if settings.lora is None and recipe.model.adapter is None:
        yield "lora='{r: 16, lora_alpha: 32, target_modules: all-linear}' (now full training)"
    zero = settings.zero
    if isinstance(zero, str):
        yield f"a higher stage, or offload, in {zero}"
    elif zero is None:
        yield "zero.stage=2, then 3 (now no zero:), with a launcher"
    else:
        if zero.stage < 3:
            yield f"zero.stage={max(zero.stage + 1, 2)} (now {zero.stage})"
        offload = {"none": "optimizer", "optimizer": "all", "all": None}[zero.offload]
        if offload is not None:
            needed = " with zero.stage=3" if offload == "all" and zero.stage < 3 else ""
            yield f"zero.offload={offload}{needed} (now {zero.offload})"

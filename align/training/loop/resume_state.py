"""Resume state: what a run needs beside the trainer's own checkpoint to go on exactly, and keeps in memory only.

The trainer's checkpoint holds weights, optimizer and random state. Missing are what was summed up since the last logged
row, a reference that moves, and the order of rows where it is drawn from the global random state.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from transformers import Trainer

from align.errors import RefusedError

_REFERENCE = "reference.safetensors"


def progress(trainer: Trainer) -> dict[str, Any]:
    """What the trainer keeps between two logged rows."""
    return {
        "loss_sum": float(trainer._tr_loss),
        "last_logged_step": trainer._globalstep_last_logged,
        "metrics": {mode: dict(values) for mode, values in getattr(trainer, "_metrics", {}).items()},
        "sums": {mode: sums.to_dict() for mode, sums in getattr(trainer, "sums", {}).items()},
        "tokens": getattr(trainer, "_total_train_tokens", None),
    }


def forget_evaluation(trainer: Trainer) -> None:
    """Drop what an evaluation that was cut off has summed up."""
    getattr(trainer, "_metrics", {"eval": {}})["eval"].clear()
    if hasattr(trainer, "sums"):
        trainer.sums["eval"].clear()


def restore_progress(trainer: Trainer, saved: Mapping[str, Any]) -> None:
    """Put it back, and let the intervals of this start count, where transformers 5.23 keeps the checkpoint's."""
    trainer._tr_loss += torch.tensor(saved["loss_sum"], dtype=trainer._tr_loss.dtype)
    trainer._total_loss_scalar -= saved["loss_sum"]  # the final `train_loss` is about this attempt's steps
    trainer._globalstep_last_logged = saved["last_logged_step"]
    for mode, values in saved["metrics"].items():
        trainer._metrics[mode].update(values)
    for mode, sums in saved.get("sums", {}).items():
        trainer.sums[mode].restore(sums, trainer.args.device)
    if saved["tokens"] is not None:
        trainer._total_train_tokens = saved["tokens"]
    trainer.state.compute_steps(trainer.args, trainer.state.max_steps)


def save_moving_reference(trainer: Trainer, folder: Path) -> None:
    """Keep the reference where it moves (`sync_ref_model`); one that does not is made anew from the start model."""
    if getattr(trainer.args, "sync_ref_model", False) and trainer.args.should_save:
        save_model(_reference(trainer), str(folder / _REFERENCE))


def restore_moving_reference(trainer: Trainer, folder: Path) -> None:
    """Put it back."""
    if getattr(trainer.args, "sync_ref_model", False):
        load_model(_reference(trainer), str(folder / _REFERENCE))


def check_moving_reference(trainer: Trainer) -> None:
    """Refuse, before the first step, what could not be resumed.

    Raises:
        RefusedError: when the reference moves and is sharded.
    """
    is_moving = getattr(trainer.args, "sync_ref_model", False)
    if is_moving and any(hasattr(weight, "ds_tensor") for weight in trainer.ref_model.parameters()):
        raise RefusedError(
            "trainer.sync_ref_model: a reference that moves and is sharded cannot be saved yet; set zero.stage=2"
        )


def own_random_state() -> AbstractContextManager[None]:
    """For what must not disturb the random state of training: an evaluation may be repeated, or made up for."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    return torch.random.fork_rng(devices)


def _reference(trainer: Trainer) -> torch.nn.Module:
    model: torch.nn.Module = trainer.accelerator.unwrap_model(trainer.ref_model)
    return model


def seed_row_order(dataloader: Any, seed: int) -> None:
    """Give the sampler a generator of its own for this epoch.

    transformers' LengthGroupedSampler draws from the global random state, and TRL's RepeatSampler goes on from the
    epoch before, so a run that goes on in a later epoch would see other rows. accelerate's is seeded.
    """
    sampler = getattr(dataloader, "batch_sampler", None)
    while sampler is not None and not hasattr(sampler, "generator"):
        sampler = getattr(sampler, "batch_sampler", None) or getattr(sampler, "sampler", None)
    if sampler is not None and not hasattr(sampler, "set_epoch"):
        sampler.generator = torch.Generator()
        sampler.generator.manual_seed(seed)


def expect_tied_weights(trainer: Trainer) -> None:
    """A tied weight is not in a checkpoint and is not missing; transformers 5.23 warns of it on every resume."""
    original = trainer._issue_warnings_after_load
    tied = set(getattr(trainer.model, "all_tied_weights_keys", {}))

    def warn_of_others(load_result: Any) -> None:
        missing = [name for name in load_result.missing_keys if name not in tied]
        original(type(load_result)(missing, load_result.unexpected_keys))

    trainer._issue_warnings_after_load = warn_of_others

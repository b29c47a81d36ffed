"""Disk: how much a checkpoint takes, and what it means when a library says that the disk refused."""

from __future__ import annotations

import re
import shutil

from transformers import Trainer

from align.errors import STORAGE_ERRNOS, StorageError
from align.training.loop.checkpoints import Checkpoints
from align.training.loop.zero import stage_in_force

_REFUSED = re.compile(r"No space left on device|quota exceeded|PytorchStreamWriter failed|unexpected pos \d+ vs")
"""What safetensors and torch say; theirs are no OSErrors."""


def bytes_of_checkpoint(trainer: Trainer) -> int:
    """Bytes of all ranks' files by estimate, of what is trained: weights in their type, two float32 moments of each.

    DeepSpeed saves float32 masters too, and below stage 3 the weights once more.
    """
    stage = stage_in_force(trainer)
    copies, extra = (1, 8) if stage is None else (1 if stage == 3 else 2, 12)
    trained = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
    return sum(getattr(p, "ds_numel", p.numel()) * (copies * p.element_size() + extra) for p in trained)


def storage_error(
    error: BaseException, checkpoints: Checkpoints, num_bytes: int | None, removes: bool
) -> StorageError | None:
    """The error of a disk that refused, or None.

    Args:
        num_bytes: what a checkpoint takes, if one was being saved.
        removes: whether this rank removes what was half written.
    """
    refused = _refusal(error)
    if refused is None and num_bytes is None:
        return None
    run = checkpoints.folder.parent
    if removes:
        checkpoints.remove_unfinished()
        shutil.rmtree(run / ".model", ignore_errors=True)
    if num_bytes is not None:
        try:
            checkpoints.check_space(num_bytes)
        except StorageError as full:
            return full
    if refused is None:
        return None
    free = shutil.disk_usage(run).free
    return StorageError(
        f"{run}: {refused}; {free:,} bytes are free now. What was saved before is whole; free some space, and the "
        "same command goes on from it."
    )


def _refusal(error: BaseException | None) -> str | None:
    while error is not None:
        if isinstance(error, OSError) and error.errno in STORAGE_ERRNOS:
            return str(error)
        if _REFUSED.search(str(error)):
            return str(error).splitlines()[0]
        error = error.__cause__ or error.__context__
    return None

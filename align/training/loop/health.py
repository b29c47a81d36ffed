"""Health: a loss, gradient or weight that is NaN or infinite stops the run within the step, before anything is saved.

Left alone, transformers logs such a loss as 0.0, ends with exit code 0 and saves weights that are all NaN.
"""

from __future__ import annotations

import math
import types
from typing import Any

import torch
from transformers import Trainer

ROW = "row"
"""Column of the training rows that holds their index."""

LOSS, GRADIENT, WEIGHT = 3, 2, 1
"""What was found not to be finite; the cause has the larger number."""


class Health:
    """Watches one trainer's steps."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self._batches: list[tuple[list[int], torch.Tensor]] = []
        """Row numbers and loss of every micro-batch that this process has used since the last step."""
        self._bad_gradient = False
        _keep_row_numbers(trainer)
        self._watch_training_step(trainer)

    def begin_step(self) -> None:
        """Forget the step before."""
        self._batches, self._bad_gradient = [], False

    @property
    def rows(self) -> list[int]:
        """Index of every row that this process has used in this step; none where rows are packed together."""
        return [row for rows, _ in self._batches for row in rows]

    @property
    def bad_rows(self) -> list[int]:
        """Those in a micro-batch whose loss is not finite."""
        return [row for rows, loss in self._batches if not loss.isfinite().all() for row in rows]

    def see_gradients(self) -> None:
        """Look at the gradients before the optimizer uses them (DeepSpeed applies them out of sight)."""
        gradients = [p.grad for p in self.trainer.model.parameters() if p.grad is not None]
        self._bad_gradient = not _all_finite(gradients)

    def found(self) -> int:
        """LOSS, GRADIENT, WEIGHT, or 0 when all is finite in this process."""
        if self._batches and not torch.stack([loss.float() for _, loss in self._batches]).isfinite().all():
            return LOSS
        if self._bad_gradient or not self._is_engine_norm_finite():
            return GRADIENT
        # Under ZeRO-3 a parameter is an empty tensor, and `ds_tensor` this rank's part of it.
        weights = [getattr(p, "ds_tensor", p).detach() for p in self.trainer.model.parameters() if p.requires_grad]
        return 0 if _all_finite(weights) else WEIGHT

    def _is_engine_norm_finite(self) -> bool:
        norm = getattr(self.trainer.model_wrapped, "get_global_grad_norm", lambda: None)()
        return norm is None or 0 <= float(norm) < math.inf  # DeepSpeed says -1 for one that is NaN or infinite

    def _watch_training_step(self, trainer: Trainer) -> None:
        original = trainer.training_step
        health = self

        def training_step(self: Trainer, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
            rows = _taken_rows(inputs)
            loss: torch.Tensor = original(model, inputs, *args, **kwargs)
            health._batches.append((rows, loss.detach()))
            return loss

        trainer.training_step = types.MethodType(training_step, trainer)


def _keep_row_numbers(trainer: Trainer) -> None:
    """Let a batch carry the numbers of its rows; collators keep tensors only."""
    collate = trainer.data_collator

    def with_rows(examples: list[dict[str, Any]]) -> Any:
        rows = [example.pop(ROW) for example in examples if ROW in example]
        batch = collate(examples)
        if rows and not isinstance(batch, list):
            batch[ROW] = rows
        elif rows:
            batch = [{**example, ROW: row} for example, row in zip(batch, rows, strict=True)]
        return batch

    trainer.data_collator = with_rows


def _taken_rows(inputs: Any) -> list[int]:
    """Take the row numbers out of a batch, so that no model sees them."""
    if isinstance(inputs, list):
        return [example.pop(ROW) for example in inputs if ROW in example]
    return list(inputs.pop(ROW, []))


def _all_finite(tensors: list[torch.Tensor]) -> bool:
    """Sums carry every NaN and infinity on, at a tenth of what looking at each number costs; they may overflow too."""
    tensors = [tensor for tensor in tensors if tensor.numel()]
    if not tensors:
        return True
    sums = torch.stack([tensor.sum(dtype=torch.float32).to(tensors[0].device) for tensor in tensors])
    return bool(sums.isfinite().all()) or all(bool(tensor.isfinite().all()) for tensor in tensors)

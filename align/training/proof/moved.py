"""Moved: did training move what it should, and nothing else?

A step that is smaller than the spacing of bfloat16 changes nothing at all, which looks like "no effect"; the share of
trainable weights that moved tells that apart from a method that does not work.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from align.errors import RefusedError
from align.training.loop.zero import gathered

_SAMPLE = 65_536


@dataclass(frozen=True)
class Movement:
    """What changed between two looks at a model."""

    trainable_share: float
    """Share of the sampled trainable weights that differ, 0 to 1."""
    num_trainable: int
    """Trainable weights in all."""
    num_frozen_moved: int
    """Sampled frozen weights that differ; must be 0."""
    has_non_finite: bool
    """Whether a sampled weight is NaN or infinite."""


class WeightSample:
    """An evenly spaced sample (up to 65,536 values a tensor) of a model's weights, taken before training."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._before = {
            name: (parameter.requires_grad, _sample(parameter)) for name, parameter in model.named_parameters()
        }
        trainable = (p for p in model.parameters() if p.requires_grad)
        self.num_trainable = sum(getattr(p, "ds_numel", p.numel()) for p in trainable)
        if self.num_trainable == 0:
            raise RefusedError(
                "model: no weight is trainable, so training cannot change anything; check the lora section"
            )

    def compare(self, model: torch.nn.Module) -> Movement:
        """Look again at the same positions. Under ZeRO-3 all ranks look at the same time."""
        moved = sampled = frozen_moved = 0
        finite = True
        for name, parameter in model.named_parameters():
            is_trainable, before = self._before[name]
            now = _sample(parameter)
            changed = int((now != before.to(now)).sum())  # DeepSpeed may have changed the type
            finite = finite and bool(torch.isfinite(now).all())
            if is_trainable:
                moved, sampled = moved + changed, sampled + now.numel()
            else:
                frozen_moved += changed
        return Movement(moved / sampled, self.num_trainable, frozen_moved, not finite)


def _sample(parameter: torch.Tensor) -> torch.Tensor:
    with gathered([parameter]):
        flat = parameter.detach().flatten()
        return flat[:: max(1, flat.numel() // _SAMPLE)].clone()

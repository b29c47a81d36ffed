"""DPO settings: what a preference run may say, and the arguments that nobody would honour."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from align.evaluation.settings import CompareSettings
from align.recipes.settings.common import (
    OWNED_ARGUMENTS,
    PASS_THROUGH_LORA,
    DataSettings,
    RecipeSettings,
    owned_arguments,
)
from align.settings.base import Location
from align.settings.passthrough import DPO_CONFIG, PassThrough
from align.training.loss.mistakes import loss_mistakes
from align.training.loss.registry import REFUSED, SORTING_LOSSES, loss_types
from align.training.loss.settings import LossSettings

_ONLY_WITH = {
    "f_alpha_divergence_coef": ("f_divergence_type", "alpha_divergence"),
    "precompute_ref_batch_size": ("precompute_ref_log_probs", True),
    "ref_model_mixup_alpha": ("sync_ref_model", True),
    "ref_model_sync_steps": ("sync_ref_model", True),
}
"""Argument → (other argument, the value without which TRL ignores it)."""


class PreferenceDataSettings(DataSettings):
    """How rows are taken from the files, and pairs from rows of scored candidates."""

    least_score_gap: float = Field(default=0.0, ge=0)
    """Of a row with scored candidates: all pairs whose scores differ by more than this; 0: all but ties."""


class DPOSettings(RecipeSettings):
    """Settings of direct preference optimization."""

    pass_through: ClassVar[Mapping[str, PassThrough]] = {"trainer": DPO_CONFIG, **PASS_THROUGH_LORA}

    reference: str = "auto"
    """`auto`: the model that training starts from; or the name of another model."""
    forward: Literal["auto", "tree", "padded"] = "auto"
    """`tree` encodes each prompt once for all its answers, `padded` once for each; `auto` takes what is faster."""
    tokens_per_forward: int | None = Field(default=None, gt=0)
    """Cuts a micro-batch into forwards of at most so many tokens, to fit into memory; left out, it is one forward."""
    data: PreferenceDataSettings = PreferenceDataSettings()
    """How rows are taken from the files."""
    loss: LossSettings = LossSettings()
    """What TRL's losses lack; `trainer.loss_type` and the like stay in `trainer:`."""
    compare: CompareSettings | None = None
    """How `align compare` shows what training did."""

    @classmethod
    def mistakes(cls, raw: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
        """Refused arguments, unknown losses, and settings that no path would honour."""
        yield from owned_arguments(raw)
        yield from loss_mistakes(raw)
        trainer = raw.get("trainer")
        if isinstance(trainer, Mapping):
            yield from _argument_mistakes(trainer)


def _argument_mistakes(trainer: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
    for name in REFUSED.keys() & trainer.keys() - OWNED_ARGUMENTS.keys():
        yield ("trainer", name), f"trainer.{name} is refused: {REFUSED[name]}"
    for name, (other, value) in _ONLY_WITH.items():
        if name in trainer and trainer.get(other) != value:
            yield ("trainer", name), f"trainer.{name} is refused: TRL ignores it unless {other} is {value!r}"
    named = trainer.get("loss_type")
    if not isinstance(named, str | list | None) or any(not isinstance(name, str) for name in named or []):
        return  # validation names it
    losses = set(loss_types(trainer))
    if trainer.get("discopop_tau") and "discopop" not in losses:
        text = f"TRL ignores it with loss_type {', '.join(sorted(losses))}; it counts with discopop"
        yield ("trainer", "discopop_tau"), f"trainer.discopop_tau is refused: {text}"
    if losses & SORTING_LOSSES and trainer.get("gradient_accumulation_steps", 1) != 1:
        text = f"{', '.join(sorted(losses & SORTING_LOSSES))} sorts the batch, so accumulation changes it"
        yield ("trainer", "loss_type"), f"trainer.loss_type: {text}; set gradient_accumulation_steps: 1"

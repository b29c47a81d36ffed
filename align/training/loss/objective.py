"""Objective: which losses are summed with which weights and options, gathered from `trainer:` and `loss:`.

Loads no torch, so that settings are checked at once. `align.training.loss.terms` computes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from align.training.loss.registry import LOSSES_TRL_LACKS, IpoReduction, LdAlphaOn, MarginOf, WpoClamp, loss_types
from align.training.loss.settings import LossSettings


@dataclass(frozen=True)
class Objective:
    """Sum of weighted losses. What no loss in it uses is at its default."""

    losses: tuple[tuple[str, float], ...]
    """(name, weight) in the order given; weights need not sum to 1, as in TRL."""
    beta: float
    label_smoothing: float
    """Share of labels believed wrong, 0 to 0.5."""
    ipo_reduction: IpoReduction
    simpo_gamma: float | None
    """In units of beta times nats a token; None when gamma / beta was given, or no loss is SimPO."""
    simpo_gamma_beta_ratio: float | None
    """Nats a token."""
    ld_alpha: float | None
    """Weight of the log-probs beyond the shorter completion's length; None: 1, the tails need not be known."""
    ld_alpha_on: LdAlphaOn
    use_weighting: bool
    """WPO."""
    wpo_clamp: WpoClamp
    margin_scale: float | None
    """None: no margins; else they come with the pairs."""
    margin_of: MarginOf | None

    @property
    def needs_reference(self) -> bool:
        """Whether any loss compares with a reference."""
        return any(name not in {*LOSSES_TRL_LACKS, "sft"} for name, _ in self.losses)

    @property
    def rewards_are_means(self) -> bool:
        """Whether a reward is nats a token: the losses have no reference, and one of them is on means."""
        return not self.needs_reference and any(name in ("simpo", "orpo") for name, _ in self.losses)

    def described(self) -> dict[str, Any]:
        """Every choice by name, for the run card."""
        return {**asdict(self), "losses": [{"type": name, "weight": weight} for name, weight in self.losses]}


def objective(trainer: Mapping[str, Any], loss: LossSettings | None = None) -> Objective:
    """What validated settings say; TRL's defaults where they are silent.

    Args:
        trainer: the `trainer:` section, with TRL's names.
        loss: the `loss:` section; None: left out.
    """
    loss = loss or LossSettings()
    names = loss_types(trainer, loss.type)
    weights = loss.weights or trainer.get("loss_weights") or [1.0] * len(names)
    return Objective(
        losses=tuple(zip(names, map(float, weights), strict=True)),
        beta=float(trainer.get("beta", 0.1)),
        label_smoothing=float(trainer.get("label_smoothing", 0.0)),
        ipo_reduction=loss.ipo_reduction,
        simpo_gamma=loss.simpo_gamma,
        simpo_gamma_beta_ratio=loss.simpo_gamma_beta_ratio,
        ld_alpha=trainer.get("ld_alpha"),
        ld_alpha_on=loss.ld_alpha_on,
        use_weighting=bool(trainer.get("use_weighting", False)),
        wpo_clamp=loss.wpo_clamp,
        margin_scale=loss.margin.scale if loss.margin else None,
        margin_of=loss.margin.of if loss.margin else None,
    )

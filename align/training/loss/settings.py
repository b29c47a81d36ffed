"""Loss settings: the `loss:` section, which holds only what TRL's `DPOConfig` lacks.

What TRL has (`loss_type`, `loss_weights`, `beta`, `label_smoothing`, `ld_alpha`, `use_weighting`) stays in `trainer:`;
naming a thing in both places is a mistake. Loads no torch.
"""

from __future__ import annotations

from pydantic import Field

from align.settings.base import Settings
from align.training.loss.registry import IpoReduction, LdAlphaOn, MarginOf, WpoClamp


class MarginSettings(Settings):
    """Margins from the scores that a judge or a reward gave both sides (ODPO, arXiv 2402.10571)."""

    scale: float = Field(gt=0)
    """What one unit of the score asks for in units of the reward difference."""
    of: MarginOf
    """Of the two scores: their difference, or its logarithm, which is negative below 1."""


class LossSettings(Settings):
    """What TRL lacks. Each choice on which libraries disagree has a name, which the run card repeats."""

    type: list[str] | str | None = None
    """Losses to sum when one of them is `simpo`, `orpo` or `cpo`; else they are named in trainer.loss_type."""
    weights: list[float] | None = None
    """Weight of each in `type`; left out, all count 1."""
    simpo_gamma: float | None = Field(default=None, ge=0)
    """SimPO's gamma, in units of beta times nats a token."""
    simpo_gamma_beta_ratio: float | None = Field(default=None, ge=0)
    """SimPO's gamma divided by beta, nats a token; instead of simpo_gamma."""
    ipo_reduction: IpoReduction = "mean"
    """Log-ratios in IPO: nats a token (as TRL), or nats of the whole completion."""
    ld_alpha_on: LdAlphaOn = "both"
    """What trainer.ld_alpha changes: policy and reference (as TRL), or the policy alone."""
    wpo_clamp: WpoClamp = "none"
    """WPO's weights may exceed 1 (as TRL), or are cut there."""
    margin: MarginSettings | None = None
    """Margins for `sigmoid` from the scores in the rows; left out, there are none."""

"""Terms: an objective's losses on the pairs at hand, each with what its mean is taken over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from align.errors import ConfigError, DataError
from align.training.loss import with_reference as losses
from align.training.loss import without_reference as reference_free_losses
from align.training.loss.objective import Objective
from align.training.loss.pairs import PairLogps, PairTails, length_desensitized

CountedBy: TypeAlias = Literal["pairs", "chosen_tokens"]


@dataclass(frozen=True)
class LossTerm:
    """One weighted loss of B pairs."""

    name: str
    weight: float
    losses_B: torch.Tensor
    """Unreduced, with gradient."""
    counted_by: CountedBy
    """What the mean over the global batch is taken over: pairs, or (`sft`) tokens of the chosen completions."""


@dataclass(frozen=True, kw_only=True)
class PairExtras:
    """What some options need of the pairs besides log-probs."""

    tails: PairTails | None = None
    """For `ld_alpha`."""
    weights_B: torch.Tensor | None = None
    """For `use_weighting`: `align.training.loss.wpo.wpo_weights`."""
    margins_B: torch.Tensor | None = None
    """For `loss.margin`: `align.training.loss.score_margins.score_margins`."""


def loss_terms(pairs: PairLogps, objective: Objective, extras: PairExtras | None = None) -> list[LossTerm]:
    """Every loss of the objective on these pairs, in its order.

    `ld_alpha` and WPO's weights act on all of them but `sft`, which is about the data and not about a preference.

    Raises:
        ConfigError: for a loss that only TRL has.
        DataError: when an option needs something of the pairs that is not there, or the reverse.
    """
    extras = extras or PairExtras()
    _check_extras(objective, extras)
    compared = pairs
    if objective.ld_alpha is not None and extras.tails is not None:
        compared = length_desensitized(pairs, extras.tails, objective.ld_alpha, objective.ld_alpha_on)
    found = []
    for name, weight in objective.losses:
        if name == "sft":
            found.append(LossTerm(name, weight, reference_free_losses.sft(pairs), "chosen_tokens"))
            continue
        losses_B = _compute(name, compared, objective, extras)
        if extras.weights_B is not None:
            losses_B = losses_B * extras.weights_B
        found.append(LossTerm(name, weight, losses_B, "pairs"))
    return found


def _compute(name: str, pairs: PairLogps, objective: Objective, extras: PairExtras) -> torch.Tensor:
    beta, smoothing = objective.beta, objective.label_smoothing
    known: dict[str, Callable[[], torch.Tensor]] = {
        "sigmoid": lambda: losses.sigmoid(pairs, beta, smoothing, extras.margins_B),
        "sigmoid_norm": lambda: losses.sigmoid_norm(pairs, beta, smoothing),
        "robust": lambda: losses.robust(pairs, beta, smoothing),
        "hinge": lambda: losses.hinge(pairs, beta),
        "ipo": lambda: losses.ipo(pairs, beta, objective.ipo_reduction),
        "apo_zero": lambda: losses.apo_zero(pairs, beta),
        "apo_down": lambda: losses.apo_down(pairs, beta),
        "simpo": lambda: reference_free_losses.simpo(
            pairs,
            beta,
            gamma=objective.simpo_gamma,
            gamma_beta_ratio=objective.simpo_gamma_beta_ratio,
            label_smoothing=smoothing,
        ),
        "orpo": lambda: reference_free_losses.orpo(pairs, beta),
        "cpo": lambda: reference_free_losses.cpo(pairs, beta, smoothing),
    }
    if name not in known:
        raise ConfigError(f"loss {name!r}: must be sft or one of {', '.join(known)}; others run on TRL's path only")
    return known[name]()


def _check_extras(objective: Objective, extras: PairExtras) -> None:
    for option, is_asked, given in (
        ("trainer.ld_alpha", objective.ld_alpha is not None, extras.tails),
        ("trainer.use_weighting", objective.use_weighting, extras.weights_B),
        ("loss.margin", objective.margin_scale is not None, extras.margins_B),
    ):
        if is_asked != (given is not None):
            state = "is set, but the pairs lack what it needs" if is_asked else "is not set, but the pairs bring it"
            raise DataError(f"{option}: {state}")

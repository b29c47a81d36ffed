"""Global loss: the mean over one optimizer step, from parts that were cut in any way.

A part is a micro-batch, a rank, a pack. Each divides by the counts of the *whole* step, which it is given, so losses
and gradients of the parts add up to the same numbers however the step was cut or ordered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from align.errors import DataError
from align.training.loss.terms import LossTerm


@dataclass(frozen=True)
class GlobalCounts:
    """What the means of one optimizer step are taken over: all micro-batches of all ranks together."""

    num_pairs: int
    num_chosen_tokens: int
    """Tokens of the chosen completions, ends of sequence included."""

    def __post_init__(self) -> None:
        if self.num_pairs < 1 or self.num_chosen_tokens < 1:
            raise DataError(f"a step must have pairs and chosen tokens, but has {self}")


def global_loss(terms: Sequence[LossTerm], counts: GlobalCounts) -> torch.Tensor:
    """This part's share of the step's loss: sum of weight * sum(losses) / count; a scalar in the losses' dtype.

    The shares of all parts add up to the loss. Where an engine averages gradients over ranks or divides a loss by the
    accumulation steps, multiply the share by that number first. A part without pairs has a share of 0.
    """
    if not terms:
        raise DataError("global_loss: there must be at least one loss")
    shares = []
    for term in terms:
        count = counts.num_pairs if term.counted_by == "pairs" else counts.num_chosen_tokens
        shares.append(term.weight * (term.losses_B.sum() / count))
    return torch.stack(shares).sum()

"""Score margins: how far the chosen side of a pair must lead, from the scores that a judge or a reward gave both."""

from __future__ import annotations

import torch

from align.errors import ConfigError, DataError
from align.training.loss.registry import MarginOf


def score_margins(
    chosen_scores_B: torch.Tensor, rejected_scores_B: torch.Tensor, scale: float, of: MarginOf
) -> torch.Tensor:
    """Margins for `align.training.loss.with_reference.sigmoid`: scale * f(chosen score - rejected score), shape [B].

    Args:
        chosen_scores_B: in the scorer's own unit.
        rejected_scores_B: on the same scale, below chosen.
        scale: alpha in the paper; what one unit of f adds to the reward difference beta (a - b) that is asked for.
        of: f. `difference` is the difference itself, `log_difference` its logarithm, which is negative below 1
            (both arXiv 2402.10571).

    Raises:
        DataError: when a chosen score does not exceed its rejected score, or one is not finite: such a pair is wrong
            or a tie, and a margin would hide it.
    """
    differences_B = chosen_scores_B - rejected_scores_B
    wrong = [index for index, value in enumerate(differences_B.tolist()) if not 0.0 < value < float("inf")]
    if wrong:
        first = wrong[0]
        raise DataError(
            f"score margins: pair {first} of this batch must have a chosen score above its rejected score, but has "
            f"{chosen_scores_B[first].item():g} and {rejected_scores_B[first].item():g} ({len(wrong)} such pairs); "
            "drop these pairs, or leave loss.margin out"
        )
    if of == "difference":
        return scale * differences_B
    if of == "log_difference":
        return scale * torch.log(differences_B)
    raise ConfigError(f"loss.margin.of: must be difference or log_difference, but is {of!r}")

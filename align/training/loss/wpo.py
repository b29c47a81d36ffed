"""WPO: weights that make pairs count by how likely the policy is to write them itself (arXiv 2406.11827)."""

from __future__ import annotations

import torch

from align.errors import ConfigError
from align.training.loss.registry import WpoClamp


def aligned_logps(logps_T: torch.Tensor, log_sum_sq_probs_T: torch.Tensor) -> torch.Tensor:
    """log p(token) - log sum over the vocabulary of p^2, at each token ("sampled alignment").

    The second term is what the policy's own samples score on average, so a token it would sample has about 0. TRL's
    fused head returns `log_sum_sq_probs`. Without gradient: weights are data.
    """
    return (logps_T - log_sum_sq_probs_T).detach()


def wpo_weights(
    chosen_mean_aligned_B: torch.Tensor, rejected_mean_aligned_B: torch.Tensor, clamp: WpoClamp
) -> torch.Tensor:
    """w(chosen) w(rejected), each w = exp(mean over the completion's tokens of `aligned_logps`) (eq. 2); shape [B].

    Losses are multiplied by it and still divided by the number of pairs, so a batch far from the policy counts less.

    Args:
        chosen_mean_aligned_B: nats a token.
        rejected_mean_aligned_B: nats a token.
        clamp: `none` lets a weight exceed 1, as TRL 1.16 does; `one` cuts the product at 1, as other code does.
    """
    weights_B = torch.exp(chosen_mean_aligned_B.detach() + rejected_mean_aligned_B.detach())
    if clamp == "none":
        return weights_B
    if clamp == "one":
        return weights_B.clamp(max=1.0)
    raise ConfigError(f"loss.wpo_clamp: must be none or one, but is {clamp!r}")

"""Losses against a reference: DPO and its kin as pure functions of log-probs, one value for each pair.

TRL's names (`loss_type`) and options. Throughout, a = log(policy / reference) of the chosen completion and b of the
rejected one, both summed over tokens, and sigma is the logistic function. Every function returns losses of shape [B] in
the dtype of the log-probs, unreduced: `align.training.loss.global_loss` reduces them. Numbers are checked against
`golden_losses.json`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from align.errors import ConfigError
from align.training.loss.pairs import PairLogps
from align.training.loss.registry import IpoReduction


def sigmoid(
    pairs: PairLogps, beta: float, label_smoothing: float = 0.0, margins_B: torch.Tensor | None = None
) -> torch.Tensor:
    """DPO: -log sigma(beta (a - b)) (arXiv 2305.18290, eq. 7).

    Args:
        beta: pull towards the reference, > 0.
        label_smoothing: epsilon, 0 to 0.5, the share of labels believed wrong: conservative DPO,
            (1 - epsilon) times the loss plus epsilon times that of the exchanged pair
            (Mitchell, "A note on DPO with noisy preferences", 2023). TRL's `sigmoid` takes it and ignores it.
        margins_B: how far the chosen reward must lead, in units of beta (a - b): DPO with an offset,
            -log sigma(beta (a - b) - margin) (arXiv 2402.10571). See `align.training.loss.score_margins`.

    Raises:
        ConfigError: when an option is out of range, or label smoothing meets margins (no one has said what an
            exchanged pair's margin would be).
    """
    logits_B = positive(beta) * (pairs.chosen_logratios_B - pairs.rejected_logratios_B)
    if margins_B is not None:
        if label_smoothing:
            raise ConfigError(f"sigmoid: with margins label_smoothing must be 0, but is {label_smoothing}")
        logits_B = logits_B - margins_B
    return conservative(logits_B, label_smoothing)


def sigmoid_norm(pairs: PairLogps, beta: float, label_smoothing: float = 0.0) -> torch.Tensor:
    """Length-normalised DPO: -log sigma(beta (a / |chosen| - b / |rejected|)) (Tulu 3, arXiv 2411.15124).

    `beta` counts nats a token: Tulu 3 uses 5 where DPO on sums uses 0.1. `label_smoothing` as in `sigmoid`.
    """
    return conservative(positive(beta) * _mean_difference(pairs), label_smoothing)


def robust(pairs: PairLogps, beta: float, label_smoothing: float) -> torch.Tensor:
    """Robust DPO: ((1 - e) L(chosen, rejected) - e L(rejected, chosen)) / (1 - 2 e) (arXiv 2403.00409).

    L is the loss of `sigmoid`, e is `label_smoothing`, 0 to below 0.5: the chance that a label was flipped. Unbiased
    under such flips, and therefore without a lower bound.

    Raises:
        ConfigError: when an option is out of range.
    """
    if not 0.0 <= label_smoothing < 0.5:
        raise ConfigError(f"robust: label_smoothing must be 0 to below 0.5, but is {label_smoothing}")
    logits_B = positive(beta) * (pairs.chosen_logratios_B - pairs.rejected_logratios_B)
    right_B, flipped_B = -F.logsigmoid(logits_B), -F.logsigmoid(-logits_B)
    return ((1.0 - label_smoothing) * right_B - label_smoothing * flipped_B) / (1.0 - 2.0 * label_smoothing)


def hinge(pairs: PairLogps, beta: float) -> torch.Tensor:
    """max(0, 1 - beta (a - b)): SLiC's hinge (arXiv 2305.10425) on DPO's rewards (RSO, arXiv 2309.06657)."""
    return torch.relu(1.0 - positive(beta) * (pairs.chosen_logratios_B - pairs.rejected_logratios_B))


def ipo(pairs: PairLogps, beta: float, reduction: IpoReduction) -> torch.Tensor:
    """IPO: (d - 1 / (2 beta))^2 (arXiv 2310.12036, eq. 17, where beta is called tau).

    Libraries disagree on d. `mean` is a / |chosen| - b / |rejected|, nats a token, as in TRL, which says that the
    paper's authors confirmed it; `sum` is a - b, as the paper writes it. One beta does not fit both: the target
    1 / (2 beta) is nats a token or nats.
    """
    if reduction == "mean":
        difference_B = _mean_difference(pairs)
    elif reduction == "sum":
        difference_B = pairs.chosen_logratios_B - pairs.rejected_logratios_B
    else:
        raise ConfigError(f"loss.ipo_reduction: must be mean or sum, but is {reduction!r}")
    return (difference_B - 1.0 / (2.0 * positive(beta))) ** 2


def apo_zero(pairs: PairLogps, beta: float) -> torch.Tensor:
    """APO-zero: 1 - sigma(beta a) + sigma(beta b) (arXiv 2408.06266, eq. 7).

    For chosen completions better than the model's own: raises chosen, lowers rejected.
    """
    beta = positive(beta)
    return 1.0 - torch.sigmoid(beta * pairs.chosen_logratios_B) + torch.sigmoid(beta * pairs.rejected_logratios_B)


def apo_down(pairs: PairLogps, beta: float) -> torch.Tensor:
    """APO-down: sigma(beta a) + 1 - sigma(beta (a - b)) (arXiv 2408.06266, eq. 8).

    For a model better than its chosen completions: lowers both, rejected more.
    """
    chosen_B = positive(beta) * pairs.chosen_logratios_B
    return torch.sigmoid(chosen_B) + 1.0 - torch.sigmoid(chosen_B - beta * pairs.rejected_logratios_B)


def conservative(logits_B: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    """-(1 - e) log sigma(z) - e log sigma(-z), e being `label_smoothing`.

    Raises:
        ConfigError: when it is outside 0 to 0.5; above, the rejected side would be taught.
    """
    if not 0.0 <= label_smoothing <= 0.5:
        raise ConfigError(f"trainer.label_smoothing: must be from 0 to 0.5, but is {label_smoothing}")
    if label_smoothing == 0.0:
        return -F.logsigmoid(logits_B)
    return -(1.0 - label_smoothing) * F.logsigmoid(logits_B) - label_smoothing * F.logsigmoid(-logits_B)


def positive(beta: float) -> float:
    """`beta`, above 0.

    Raises:
        ConfigError: when it is not; at 0 nothing is learned from a pair.
    """
    if not beta > 0.0:
        raise ConfigError(f"trainer.beta: must be above 0, but is {beta}")
    return beta


def _mean_difference(pairs: PairLogps) -> torch.Tensor:
    """Difference of log-ratios, each in nats a token."""
    chosen_B = pairs.chosen_logratios_B / pairs.num_chosen_tokens_B
    return chosen_B - pairs.rejected_logratios_B / pairs.num_rejected_tokens_B

"""Losses without a reference: SimPO, ORPO, CPO and the likelihood of the chosen side, one value for each pair.

Pure functions of the policy's log-probs, shape [B] in and out, unreduced. None has a term that its name does not say:
TRL's CPO trainer adds 1.0 times an NLL by default, to `simpo` as well; here that is `sft`, named in the list of losses.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from align.errors import ConfigError
from align.training.loss.pairs import PairLogps
from align.training.loss.with_reference import conservative, positive


def simpo(
    pairs: PairLogps,
    beta: float,
    *,
    gamma: float | None = None,
    gamma_beta_ratio: float | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """SimPO: -log sigma(beta (lc - lr) - gamma), lc and lr in nats a token (arXiv 2405.14734, eq. 6).

    Args:
        beta: 2 to 2.5 in the paper, 10 for Llama-3 v0.2.
        gamma: lead that the chosen side must have, in units of beta (lc - lr): TRL's and LLaMA-Factory's `simpo_gamma`.
        gamma_beta_ratio: the same as gamma / beta, nats a token: the name in the authors' code.
        label_smoothing: as in `with_reference.sigmoid`; both terms keep gamma's sign, as in the authors' code.

    Raises:
        ConfigError: unless exactly one of gamma and gamma_beta_ratio is given.
    """
    if (gamma is None) == (gamma_beta_ratio is None):
        raise ConfigError(
            f"simpo: give either gamma or gamma_beta_ratio, not gamma={gamma} and gamma_beta_ratio={gamma_beta_ratio}"
        )
    difference_B = pairs.chosen_mean_logps_B - pairs.rejected_mean_logps_B
    lead = gamma if gamma is not None else beta * (gamma_beta_ratio or 0.0)
    return conservative(positive(beta) * difference_B - lead, label_smoothing)


def orpo(pairs: PairLogps, beta: float) -> torch.Tensor:
    """ORPO: -lc - beta log sigma(logit(e^lc) - logit(e^lr)), lc and lr in nats a token (arXiv 2403.07691, eq. 6 and 7).

    `beta` is the paper's lambda. The first term is the NLL of the chosen completion, a mean over its own tokens and
    then over pairs; TRL takes it over all tokens of a micro-batch, the prompt's included, so its value depends on how
    the batch is cut. Not finite where a completion has probability exactly 1.
    """
    chosen_B, rejected_B = pairs.chosen_mean_logps_B, pairs.rejected_mean_logps_B
    log_odds_B = (chosen_B - _log_of_rest(chosen_B)) - (rejected_B - _log_of_rest(rejected_B))
    return -chosen_B - positive(beta) * F.logsigmoid(log_odds_B)


def cpo(pairs: PairLogps, beta: float, label_smoothing: float = 0.0) -> torch.Tensor:
    """CPO's preference term: -log sigma(beta (log p(chosen) - log p(rejected))), sums (arXiv 2401.08417, eq. 3).

    The paper trains on this plus the NLL of chosen: `type: [cpo, sft]`. `label_smoothing` as in
    `align.training.loss.with_reference.sigmoid`.
    """
    return conservative(positive(beta) * (pairs.chosen_logps_B - pairs.rejected_logps_B), label_smoothing)


def sft(pairs: PairLogps) -> torch.Tensor:
    """Negative log-likelihood of the chosen completion, *summed* over its tokens.

    Beside a preference loss it keeps the chosen side likely (RPO, arXiv 2404.19733, there a mean for each pair).

    Here the mean is over the chosen tokens of the global batch, not over pairs; `global_loss` divides by
    them. TRL divides by those of a micro-batch, so there the loss depends on how the batch is cut.
    """
    return -pairs.chosen_logps_B


def _log_of_rest(mean_logps_B: torch.Tensor) -> torch.Tensor:
    """log(1 - e^x) for x < 0; expm1 keeps its digits near 0, where 1 - e^x loses them."""
    return torch.log(-torch.expm1(mean_logps_B))

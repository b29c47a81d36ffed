"""Pairs: what a preference loss needs to know of B pairs, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from align.errors import ConfigError, DataError
from align.training.loss.registry import LdAlphaOn


@dataclass(frozen=True, kw_only=True)
class PairLogps:
    """Log-probs of B pairs, in nats; every field has shape [B].

    Fields are given by name only, since a loss with chosen and reference exchanged still goes down.

    Raises:
        DataError: when shapes, dtypes or devices differ, the log-probs are in half precision (bfloat16 numbers near 200
            are 1 nat apart), or the reference has one side only.
    """

    chosen_logps_B: torch.Tensor
    """Sum of the policy's log-probs over the completion's tokens, end of sequence included."""
    rejected_logps_B: torch.Tensor
    num_chosen_tokens_B: torch.Tensor
    """Tokens that were summed, at least 1; any integer or floating dtype."""
    num_rejected_tokens_B: torch.Tensor
    ref_chosen_logps_B: torch.Tensor | None = None
    """The same sums under the reference, without gradient; None for losses that have no reference."""
    ref_rejected_logps_B: torch.Tensor | None = None

    def __post_init__(self) -> None:
        if (self.ref_chosen_logps_B is None) != (self.ref_rejected_logps_B is None):
            raise DataError("PairLogps: the reference must have both sides or none, but one is missing")
        first = self.chosen_logps_B
        if first.dtype not in (torch.float32, torch.float64):
            raise DataError(f"PairLogps: log-probs must be float32 or float64, but are {first.dtype}; sum in float32")
        for name, tensor in vars(self).items():
            if tensor is None:
                continue
            is_count = name.startswith("num_")
            if tensor.ndim != 1 or tensor.shape != first.shape or tensor.device != first.device:
                raise DataError(
                    f"PairLogps.{name}: must have shape {tuple(first.shape)} on {first.device} with one dimension, "
                    f"as chosen_logps_B, but has {tuple(tensor.shape)} on {tensor.device}"
                )
            if not is_count and tensor.dtype != first.dtype:
                raise DataError(f"PairLogps.{name}: must be {first.dtype} as chosen_logps_B, but is {tensor.dtype}")

    @property
    def has_reference(self) -> bool:
        """Whether the reference's log-probs are there."""
        return self.ref_chosen_logps_B is not None

    @property
    def chosen_logratios_B(self) -> torch.Tensor:
        """log(policy / reference) of the chosen completion.

        Raises:
            DataError: without a reference.
        """
        return self.chosen_logps_B - _needed(self.ref_chosen_logps_B)

    @property
    def rejected_logratios_B(self) -> torch.Tensor:
        """log(policy / reference) of the rejected completion.

        Raises:
            DataError: without a reference.
        """
        return self.rejected_logps_B - _needed(self.ref_rejected_logps_B)

    @property
    def chosen_mean_logps_B(self) -> torch.Tensor:
        """Nats a token under the policy."""
        return self.chosen_logps_B / self.num_chosen_tokens_B

    @property
    def rejected_mean_logps_B(self) -> torch.Tensor:
        """Nats a token under the policy."""
        return self.rejected_logps_B / self.num_rejected_tokens_B


@dataclass(frozen=True, kw_only=True)
class PairTails:
    """The part of each sum in `PairLogps` that lies beyond the shorter completion's length; shape [B], nats.

    With c and r tokens, the tail of a side is its log-probs from token min(c, r) + 1 on: 0 for the shorter side.
    """

    chosen_logps_B: torch.Tensor
    rejected_logps_B: torch.Tensor
    ref_chosen_logps_B: torch.Tensor | None = None
    ref_rejected_logps_B: torch.Tensor | None = None


def length_desensitized(pairs: PairLogps, tails: PairTails, ld_alpha: float, ld_alpha_on: LdAlphaOn) -> PairLogps:
    """LD-DPO: count log-probs beyond the shared length `ld_alpha` times (arXiv 2409.06411).

    sum - (1 - alpha) tail. `ld_alpha` 1 changes nothing, 0 leaves the tails out. Libraries disagree on the reference:
    `both` changes policy and reference (TRL), `policy` the policy alone. The token counts stay those of the whole
    completion, so a mean divides by its full length (as TRL's does).

    Raises:
        ConfigError: when `ld_alpha` is outside 0 to 1.
        DataError: when the reference is to be changed and has no tails.
    """
    if not 0.0 <= ld_alpha <= 1.0:
        raise ConfigError(f"trainer.ld_alpha: must be from 0 to 1, but is {ld_alpha}")
    less = 1.0 - ld_alpha
    policy = replace(
        pairs,
        chosen_logps_B=pairs.chosen_logps_B - less * tails.chosen_logps_B,
        rejected_logps_B=pairs.rejected_logps_B - less * tails.rejected_logps_B,
    )
    if ld_alpha_on == "policy" or not pairs.has_reference:
        return policy
    return replace(
        policy,
        ref_chosen_logps_B=_needed(pairs.ref_chosen_logps_B) - less * _needed(tails.ref_chosen_logps_B),
        ref_rejected_logps_B=_needed(pairs.ref_rejected_logps_B) - less * _needed(tails.ref_rejected_logps_B),
    )


def _needed(reference_B: torch.Tensor | None) -> torch.Tensor:
    if reference_B is None:
        raise DataError("PairLogps: this loss needs the reference's log-probs, but they were left out")
    return reference_B

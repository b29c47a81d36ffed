"""Preference metrics: what TRL's DPO trainer logs, under its names, as sums and counts that parts may add up.

TRL averages the means of micro-batches, so a short micro-batch counts as much as a long one; here sums are divided once
for the whole step. In one micro-batch on one rank both are equal. Computed without gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from align.errors import DataError
from align.training.loss.objective import Objective
from align.training.loss.pairs import PairLogps
from align.training.loss.terms import LossTerm

Sums: TypeAlias = Mapping[str, tuple[torch.Tensor, torch.Tensor]]
"""Name → (sum, count), both scalars."""


@dataclass(frozen=True, kw_only=True)
class TokenSums:
    """Sums over the completion tokens of one side of B pairs; shape [B]."""

    num_tokens_B: torch.Tensor
    entropy_B: torch.Tensor
    """Sum over tokens of the entropy of the next-token distribution, nats."""
    mean_logits_B: torch.Tensor
    """Sum over tokens of the mean logit over the vocabulary."""
    num_top1_B: torch.Tensor
    """Tokens that are the model's most likely next one."""


def rewards(pairs: PairLogps, objective: Objective) -> tuple[torch.Tensor, torch.Tensor]:
    """Implicit rewards of chosen and rejected, each of shape [B], without gradient.

    With a reference, beta times the summed log-ratio, whatever the loss (as TRL). Without one, beta times the policy's
    log-prob: a sum for CPO, nats a token for SimPO and ORPO (as TRL's trainers for them).
    """
    if objective.needs_reference:
        chosen_B, rejected_B = pairs.chosen_logratios_B, pairs.rejected_logratios_B
    elif objective.rewards_are_means:
        chosen_B, rejected_B = pairs.chosen_mean_logps_B, pairs.rejected_mean_logps_B
    else:
        chosen_B, rejected_B = pairs.chosen_logps_B, pairs.rejected_logps_B
    return objective.beta * chosen_B.detach(), objective.beta * rejected_B.detach()


def pair_sums(pairs: PairLogps, objective: Objective) -> Sums:
    """`rewards/*` and `logps/*`: means over pairs.

    Args:
        pairs: those that the losses compared; with `ld_alpha`, after `length_desensitized` (as TRL).

    `rewards/accuracies` is the share of pairs whose chosen reward is the higher one; equal rewards count as wrong.
    """
    chosen_B, rejected_B = rewards(pairs, objective)
    return _over_rows(
        {
            "rewards/chosen": chosen_B,
            "rewards/rejected": rejected_B,
            "rewards/accuracies": (chosen_B > rejected_B).to(chosen_B.dtype),
            "rewards/margins": chosen_B - rejected_B,
            "logps/chosen": pairs.chosen_logps_B.detach(),
            "logps/rejected": pairs.rejected_logps_B.detach(),
        }
    )


def token_sums(chosen: TokenSums, rejected: TokenSums) -> Sums:
    """`entropy` (both sides), `logits/*` and `mean_token_accuracy` (chosen): means over completion tokens."""
    num_chosen, num_rejected = chosen.num_tokens_B.sum(), rejected.num_tokens_B.sum()
    return {
        "entropy": (chosen.entropy_B.sum() + rejected.entropy_B.sum(), num_chosen + num_rejected),
        "logits/chosen": (chosen.mean_logits_B.sum(), num_chosen),
        "logits/rejected": (rejected.mean_logits_B.sum(), num_rejected),
        "mean_token_accuracy": (chosen.num_top1_B.sum(), num_chosen),
    }


def term_sums(terms: Sequence[LossTerm], num_chosen_tokens: torch.Tensor) -> Sums:
    """`loss/<name>`: each loss before its weight, as a mean over what it is counted by. TRL logs their sum only."""
    return {
        f"loss/{term.name}": (
            term.losses_B.detach().sum(),
            num_chosen_tokens if term.counted_by == "chosen_tokens" else torch.tensor(len(term.losses_B)),
        )
        for term in terms
    }


def num_tokens(
    num_prompt_tokens_B: torch.Tensor, num_chosen_tokens_B: torch.Tensor, num_rejected_tokens_B: torch.Tensor
) -> int:
    """TRL's `num_tokens` for these pairs: both sequences of each, so a prompt counts twice even where it ran once."""
    return int((2 * num_prompt_tokens_B + num_chosen_tokens_B + num_rejected_tokens_B).sum())


def added(first: Sums, second: Sums) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Sums and counts of two parts together.

    Raises:
        DataError: when they do not have the same names.
    """
    if first.keys() != second.keys():
        raise DataError(
            f"metrics: parts must have the same names; these differ: {sorted(first.keys() ^ second.keys())}"
        )
    return {
        name: (total + second[name][0], count + second[name][1].to(count.device))
        for name, (total, count) in first.items()
    }


def means(sums: Sums) -> dict[str, float]:
    """The metrics; one that counted nothing is left out, rather than said to be 0 (as TRL says)."""
    return {name: float(total.detach() / count) for name, (total, count) in sums.items() if int(count)}


def _over_rows(values: Mapping[str, torch.Tensor]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    return {name: (value_B.sum(), torch.tensor(len(value_B))) for name, value_B in values.items()}

"""Pairs of log-probs for the tests of losses."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from typing import Any

import torch

from align.training.loss.pairs import PairLogps
from align.training.verify.losses import golden

GOLDEN = json.loads(resources.files("align.training.loss").joinpath("golden.json").read_text(encoding="utf-8"))


def golden_pairs() -> PairLogps:
    """The four pairs of `golden_losses.json`, float64."""
    return golden()[0]


def random_pairs(num_pairs: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> PairLogps:
    """Pairs of 5 to 60 tokens at about 1 nat each, the reference nearby; with gradient."""
    generator = torch.Generator().manual_seed(seed)
    lengths_2_B = torch.randint(5, 61, (2, num_pairs), generator=generator)
    policy_2_B = -lengths_2_B * (0.5 + torch.rand(2, num_pairs, generator=generator, dtype=torch.float64))
    reference_2_B = policy_2_B + torch.randn(2, num_pairs, generator=generator, dtype=torch.float64)
    return PairLogps(
        chosen_logps_B=policy_2_B[0].to(dtype).requires_grad_(),
        rejected_logps_B=policy_2_B[1].to(dtype).requires_grad_(),
        num_chosen_tokens_B=lengths_2_B[0],
        num_rejected_tokens_B=lengths_2_B[1],
        ref_chosen_logps_B=reference_2_B[0].to(dtype),
        ref_rejected_logps_B=reference_2_B[1].to(dtype),
    )


def rows(pairs: PairLogps, index: Any) -> PairLogps:
    """Some of the pairs, in the order given."""
    return replace(pairs, **{name: value[index] for name, value in vars(pairs).items() if value is not None})

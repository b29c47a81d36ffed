"""Verify losses: each loss function against its golden values, and against itself with the sides exchanged.

Needs no model; float64 throughout, so that nothing but the formulas is checked.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from importlib import resources
from typing import Any, TypeAlias

import torch

from align.training.loss import with_reference as losses
from align.training.loss import without_reference as reference_free_losses
from align.training.loss.pairs import PairLogps
from align.training.verify.finding import Finding

Loss: TypeAlias = Callable[[PairLogps, float], torch.Tensor]

AGAINST_REFERENCE: dict[str, Loss] = {
    "sigmoid": losses.sigmoid,
    "cdpo_eps0.1": lambda pairs, beta: losses.sigmoid(pairs, beta, 0.1),
    "cdpo_eps0.3": lambda pairs, beta: losses.sigmoid(pairs, beta, 0.3),
    "robust_eps0.1": lambda pairs, beta: losses.robust(pairs, beta, 0.1),
    "robust_eps0.3": lambda pairs, beta: losses.robust(pairs, beta, 0.3),
    "hinge": losses.hinge,
    "ipo_token_mean": lambda pairs, beta: losses.ipo(pairs, beta, "mean"),
    "ipo_sum": lambda pairs, beta: losses.ipo(pairs, beta, "sum"),
    "sigmoid_norm": losses.sigmoid_norm,
    "apo_zero": losses.apo_zero,
    "apo_down": losses.apo_down,
}
"""Name in the golden file → function of pairs and beta."""
WITHOUT_REFERENCE: dict[str, Callable[[PairLogps], torch.Tensor]] = {
    "simpo beta=2.0 gamma/beta=0.5": lambda pairs: reference_free_losses.simpo(pairs, 2.0, gamma_beta_ratio=0.5),
    "simpo beta=2.5 gamma=1.375": lambda pairs: reference_free_losses.simpo(pairs, 2.5, gamma=1.375),
    "orpo beta=0.1 (-lc + beta*-logsig(log odds))": lambda pairs: reference_free_losses.orpo(pairs, 0.1),
    "cpo beta=0.1 (summed logps, no NLL)": lambda pairs: reference_free_losses.cpo(pairs, 0.1),
}
"""The same for losses whose beta stands in their name."""
ONLY_ON_TRLS_PATH = (
    "nca_pair",
    "bco_pair_delta0",
    "sppo_hard",
    "discopop_tau0.05",
    "exo_pair_eps1e-3",
    "aot_paired",
    "aot_unpaired",
    "kto beta=0.1 KL=0.4 w=1,1",
)
"""Golden values of losses that this package does not compute."""

TOLERANCE = 1e-12
"""Relative, or absolute below 1; float64."""
_BETAS = (0.1, 0.5)
_ONLY_THE_DIFFERENCE = ("sigmoid", "cdpo_eps0.1", "cdpo_eps0.3", "robust_eps0.1", "robust_eps0.3", "hinge", "ipo_sum")
"""Losses that see a = log(policy / reference) of the chosen and b of the rejected side as a - b alone."""


def check_losses(against_reference: Mapping[str, Loss] | None = None, pairs: PairLogps | None = None) -> list[Finding]:
    """Golden values and swap symmetry.

    Args:
        against_reference: functions to check in place of `AGAINST_REFERENCE`.
        pairs: to exchange sides of, float64; None: those of the golden file.
    """
    functions = AGAINST_REFERENCE if against_reference is None else against_reference
    at_golden, expected = golden()
    pairs = at_golden if pairs is None else pairs
    return [
        _golden_values(functions, at_golden, expected),
        _exchanged_loss(functions, pairs),
        _antisymmetry(functions, pairs),
    ]


def golden() -> tuple[PairLogps, dict[str, Any]]:
    """The file's pairs, and its values: by `beta=…` and name, without a reference by name alone."""
    text = resources.files("align.training.loss").joinpath("golden.json").read_text(encoding="utf-8")
    content = json.loads(text)
    inputs = {name: torch.tensor(values, dtype=torch.float64) for name, values in content["inputs"].items()}
    pairs = PairLogps(
        chosen_logps_B=inputs["policy_chosen"],
        rejected_logps_B=inputs["policy_rejected"],
        num_chosen_tokens_B=inputs["len_chosen"],
        num_rejected_tokens_B=inputs["len_rejected"],
        ref_chosen_logps_B=inputs["ref_chosen"],
        ref_rejected_logps_B=inputs["ref_rejected"],
    )
    return pairs, content["expected"]


def _golden_values(functions: Mapping[str, Loss], pairs: PairLogps, expected: Mapping[str, Any]) -> Finding:
    found = [
        _difference(function(pairs, beta), expected[f"beta={beta}"][name])
        for name, function in functions.items()
        for beta in _BETAS
    ]
    bare = replace(pairs, ref_chosen_logps_B=None, ref_rejected_logps_B=None)
    found += [_difference(function(bare), expected[name]) for name, function in WITHOUT_REFERENCE.items()]
    compared = f"{len(found) * len(pairs.chosen_logps_B)} values of {len(functions) + len(WITHOUT_REFERENCE)} losses"
    return Finding("golden losses", f"{compared} against 50 digits", _largest(found), TOLERANCE)


def _exchanged_loss(functions: Mapping[str, Loss], pairs: PairLogps) -> Finding:
    """-log sigma(-z) for each exchanged pair, worked out with `math` alone."""
    sigmoid = functions["sigmoid"]
    a_B, b_B = pairs.chosen_logratios_B.tolist(), pairs.rejected_logratios_B.tolist()
    found = [
        _difference(
            sigmoid(exchanged(pairs), beta),
            [math.log1p(math.exp(beta * (a - b))) for a, b in zip(a_B, b_B, strict=True)],
        )
        for beta in _BETAS
    ]
    return Finding("swap symmetry", "sigmoid with sides exchanged against -log sigma(-z)", _largest(found), TOLERANCE)


def _antisymmetry(functions: Mapping[str, Loss], pairs: PairLogps) -> Finding:
    """What the chosen side gains the rejected one loses; sigma(z) of a pair and of the exchanged one add up to 1."""
    found = []
    for name in _ONLY_THE_DIFFERENCE:
        chosen_B, rejected_B = _gradients(functions[name], pairs)
        found += (chosen_B + rejected_B).tolist()
    there_B, back_B = (_gradients(functions["sigmoid"], each)[0] for each in (pairs, exchanged(pairs)))
    found += (there_B + back_B + _BETAS[0]).tolist()
    compared = f"gradients of {len(_ONLY_THE_DIFFERENCE)} losses, by chosen against minus by rejected log-prob"
    return Finding("swap symmetry", compared, _largest([abs(each) for each in found]), TOLERANCE)


def exchanged(pairs: PairLogps) -> PairLogps:
    """Chosen and rejected change places."""

    def other(name: str) -> str:
        return name.replace("chosen", "rejected") if "chosen" in name else name.replace("rejected", "chosen")

    return PairLogps(**{other(one.name): getattr(pairs, one.name) for one in fields(pairs)})


def _gradients(function: Loss, pairs: PairLogps) -> tuple[torch.Tensor, ...]:
    sides = [side.detach().clone().requires_grad_() for side in (pairs.chosen_logps_B, pairs.rejected_logps_B)]
    losses_B = function(replace(pairs, chosen_logps_B=sides[0], rejected_logps_B=sides[1]), _BETAS[0])
    return torch.autograd.grad(losses_B.sum(), sides)


def _difference(found_B: torch.Tensor, expected: list[float]) -> float:
    """The largest difference; relative where the value expected is above 1."""
    return _largest(
        [abs(one - other) / max(1.0, abs(other)) for one, other in zip(found_B.tolist(), expected, strict=True)]
    )


def _largest(values: list[float]) -> float:
    """`max` would pass over a NaN."""
    return float(torch.tensor(values, dtype=torch.float64).max())

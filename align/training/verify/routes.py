"""Verify routes: each way to compute the tree's attention against padded rows, with gradients, on one model.

In float32 a route must give the padded rows' numbers. In bfloat16 nothing gives the exact numbers, so a route is held
against padded rows in float32, and may be off by no more than padded rows in bfloat16 are, times a factor. The factors
come from how such ratios scatter by chance over texts of the same lengths (SmolLM2, twelve measurements): root mean
squares over 202 tokens gave 0.75 to 1.06, gradients, in which a few tokens weigh most, 0.59 to 1.67. Of a loss there is
one number, whose error may by chance be next to nothing, so no ratio of two such errors means anything: it may be off
by five standard deviations, the errors of the padded tokens taken as independent.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import torch

from align.training.verify.finding import Finding
from align.training.verify.model import GRADIENT, LOSS
from align.training.verify.rows import SIGMOID, Forward, Measured, Rows, by_tree, measure, padded, ratio, relative
from align.tree.attention import Route
from align.tree.dense import dense_attention
from align.tree.grouped import grouped_attention
from align.tree.layout import TreePlan
from align.tree.varlen import emulated_varlen_attention, varlen_attention, why_not_varlen

LOGPS = 5e-4
"""Nats that the log-prob of a completion may differ by in float32; with 133 tokens, up to 6e-5 was seen."""
LOGPS_FACTOR, GRADIENT_FACTOR = 1.5, 3.0
"""How many times the error of padded bfloat16 rows a route may have; 4.5 and 3.5 standard deviations of its scatter."""
LOSS_DEVIATIONS = 5.0

Arithmetic: TypeAlias = AbstractContextManager[Any] | None


def routes_of(device: torch.device, dtype: torch.dtype, head_size: int) -> dict[str, Route]:
    """What a device can train with in a type, by name; where the varlen kernel does not run, its emulation too."""
    varlen: dict[str, Route] = {"varlen": varlen_attention}
    if why_not_varlen(device, dtype, head_size):
        varlen = {"varlen (emulated)": emulated_varlen_attention}
    return {"grouped": grouped_attention, **varlen}


def sees_sibling(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, plan: TreePlan, scaling: float | None
) -> torch.Tensor:
    """The planted fault: a route by which each completion also sees the ones before it."""
    lengths = tuple((prompt, (sum(completions),)) for prompt, completions in plan.lengths)
    return dense_attention(query, key, value, dataclasses.replace(plan, lengths=lengths), scaling)


def check_exact(model: Any, rows: Rows, exact: Measured, routes: Mapping[str, Route]) -> list[Finding]:
    """Routes in float32; `exact` are plain padded rows."""
    findings = []
    for name, route in routes.items():
        found = measure(model, rows, by_tree(route))
        completions = f"log-probs of {len(exact.sums)} completions against padded rows"
        findings += [
            Finding(f"{name}, float32", completions, _largest(found.sums - exact.sums), LOGPS, "nats"),
            Finding(f"{name}, float32", "loss", abs(found.loss - exact.loss), LOSS),
            Finding(f"{name}, float32", "gradient, relative", relative(found.gradients, exact.gradients), GRADIENT),
        ]
    return findings


def check_fault_exact(model: Any, rows: Rows, exact: Measured, fault: Route) -> Finding:
    """The comparison of `check_exact` on a route that is wrong on purpose."""
    sums = _scored(model, rows, by_tree(fault), None)[1]
    compared = "log-probs when completions see each other"
    return Finding("planted fault, float32", compared, _largest(sums - exact.sums), LOGPS, "nats", must_exceed=True)


def check_rounded(
    model: Any,
    rows: Rows,
    exact: Measured,
    routes: Mapping[str, Route],
    fault: Route,
    kind: str,
    arithmetic: Arithmetic,
) -> list[Finding]:
    """Routes in bfloat16, and the planted fault among them.

    Args:
        exact: plain padded rows in float32.
        kind: of bfloat16, for the lines: of the weights, or by autocast.
        arithmetic: entered around each forward.
    """
    rounded = measure(model, rows, functools.partial(padded, fused=True), arithmetic=arithmetic)
    error = _rms(rounded.tokens_M - exact.tokens_M)
    gradient = relative(rounded.gradients, exact.gradients)
    allowed_loss = LOSS_DEVIATIONS * _deviation_of_loss(rows, rounded.tokens_M - exact.tokens_M)
    own = f"log-prob error over padded rows' own ({error:.2g} nats a token)"
    findings = []
    for name, route in routes.items():
        found = measure(model, rows, by_tree(route), arithmetic=arithmetic)
        of_logps = ratio(_rms(found.tokens_M - exact.tokens_M), error)
        of_gradient = ratio(relative(found.gradients, exact.gradients), gradient)
        title = f"{name}, {kind}"
        findings += [
            Finding(title, own, of_logps, LOGPS_FACTOR),
            Finding(title, "loss against padded float32", abs(found.loss - exact.loss), allowed_loss),
            Finding(title, f"gradient error over padded rows' own ({gradient:.2g})", of_gradient, GRADIENT_FACTOR),
        ]
    wrong = ratio(_rms(_scored(model, rows, by_tree(fault), arithmetic)[0] - exact.tokens_M), error)
    compared = f"{own} when completions see each other"
    return [*findings, Finding(f"planted fault, {kind}", compared, wrong, LOGPS_FACTOR, must_exceed=True)]


def _scored(model: Any, rows: Rows, forward: Forward, arithmetic: Arithmetic) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs without gradient, float64: (of tokens, of completions)."""
    with torch.no_grad(), arithmetic or nullcontext():
        logps = forward(model, rows.groups)
    return logps.tokens_M.double(), logps.sums.double()


def _deviation_of_loss(rows: Rows, errors_M: torch.Tensor) -> float:
    """Standard deviation of a mean of -log sigma(beta (a - b)), at most, with independent errors of these sizes."""
    lengths = [len(ids) for group in rows.groups for ids in group.completions]
    num_pairs = [len(group.completions) - 1 for group in rows.groups for _ in group.completions]  # of each completion
    squares = [float(part.square().sum()) for part in torch.split(errors_M, lengths)]
    variance = sum(number**2 * square for number, square in zip(num_pairs, squares, strict=True))
    return SIGMOID.beta * math.sqrt(variance) / rows.counts.num_pairs


def _largest(differences: torch.Tensor) -> float:
    return float(differences.abs().max())


def _rms(errors: torch.Tensor) -> float:
    return float(errors.square().mean().sqrt())

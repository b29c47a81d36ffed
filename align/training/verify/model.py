"""Verify model: what must hold on a real model however it is run, and which layers of a large one are taken.

That is log 2, nothing from equal sides, any cut of a step.

Rounding must not blur these, so they are asked in float32 even where training runs in bfloat16.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from align.models.facts import unwrapped
from align.training.verify.finding import Finding
from align.training.verify.rows import (
    BOTH_COUNTS,
    Forward,
    Rows,
    loss_of,
    measure,
    norm,
    ratio,
    relative,
)
from align.tree.layout import TokenGroup

LOSS, GRADIENT = 1e-5, 5e-5
"""What float32 may differ by: the loss absolutely, the gradient as a vector relatively.

SmolLM2's thirty layers differ by up to 5e-7 and 7e-6 on a CPU, padded rows among themselves too.
"""
LOG_2 = 1e-6
_CUTS = (((0, 1), (2, 3)), ((3,), (2, 0), (1,)))
"""Four groups in micro-batches, and the same cut, ordered and packed in another way."""
_MOST_PARAMETERS = {"cpu": 200_000_000, "cuda": 1_000_000_000}
"""Parameters of a model that is verified whole; of a larger one the first layers are taken, and at least two."""
_MOST_TRAINED = 300_000_000
"""Parameters whose gradients are all compared; float32 weights, two gradients and their difference are in memory."""


def shorten(model: Any, device: torch.device) -> list[str]:
    """Make a large model fit into two minutes and into memory, and choose the weights whose gradients are taken.

    Every layer of a model that the tree supports has the same attention, so two layers show what forty would.

    Returns:
        What was left out, a sentence for each.
    """
    decoder = unwrapped(model).base_model
    layers = getattr(decoder, "layers", None)
    notes = []
    total = sum(parameter.numel() for parameter in model.parameters())
    if layers is not None:
        of_layer = sum(parameter.numel() for parameter in layers[0].parameters())
        room = _MOST_PARAMETERS.get(device.type, _MOST_PARAMETERS["cuda"]) - (total - of_layer * len(layers))
        keep = min(len(layers), max(2, room // of_layer))
        if keep < len(layers):
            notes.append(
                f"the first {keep} of its {len(layers)} layers are taken ({total / 1e9:.1f} billion parameters)"
            )
            decoder.layers = layers[:keep]
    total = sum(parameter.numel() for parameter in model.parameters())
    model.requires_grad_(layers is None or total <= _MOST_TRAINED)
    if layers is not None and total > _MOST_TRAINED:
        notes.append("gradients are those of the first and the last of these layers")
        decoder.layers[0].requires_grad_(True)
        decoder.layers[-1].requires_grad_(True)
    return notes


@contextmanager
def in_float32(model: Any) -> Iterator[None]:
    """The same weights in float32; they come back as they were, since bfloat16 to float32 loses nothing."""
    tensors = [each for each in itertools.chain(model.parameters(), model.buffers()) if each.is_floating_point()]
    types = [each.dtype for each in tensors]
    for each in tensors:
        each.data = each.data.float()
    try:
        yield
    finally:
        for each, dtype in zip(tensors, types, strict=True):
            each.data = each.data.to(dtype)


def check_log_2(model: Any, rows: Rows, forward: Forward, name: str) -> Finding:
    """The policy's own log-probs as its reference, by the same route, with and without gradient."""
    with torch.no_grad():
        own = replace(rows, reference=tuple(forward(model, [group]).sums for group in rows.groups))
    single = [(number,) for number in range(len(rows.groups))]
    found = abs(loss_of(model, own, forward, single) - math.log(2.0))
    return Finding("log 2", f"sigmoid loss with the policy as its reference, {name}", found, LOG_2)


def check_equal_sides(model: Any, rows: Rows, forward: Forward, name: str) -> Finding:
    """A pair whose sides are the same tokens teaches no weight anything (`sigmoid`).

    The gradient found is a share of what one side alone would bring.
    """
    group = rows.groups[0]
    chosen, rejected = forward(model, [TokenGroup(group.prompt, [group.completions[0]] * 2)]).sums
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    loss = -torch.nn.functional.logsigmoid(0.1 * (chosen - rejected))
    both = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
    one = torch.autograd.grad(0.05 * chosen, weights, allow_unused=True)
    return Finding("identical sides", f"gradient over that of one side, {name}", ratio(norm(both), norm(one)), GRADIENT)


def check_invariance(model: Any, rows: Rows, forward: Forward, name: str) -> list[Finding]:
    """One step of `sigmoid` and `sft`, cut into other micro-batches, ordered and packed otherwise."""
    one, other = (measure(model, rows, forward, cut, BOTH_COUNTS) for cut in _CUTS)
    cut = f"a step in {len(_CUTS[0])} micro-batches against {len(_CUTS[1])} in another order, {name}"
    return [
        Finding("invariance", f"loss of {cut}", abs(one.loss - other.loss), LOSS),
        Finding("invariance", f"gradient of {cut}", relative(other.gradients, one.gradients), GRADIENT),
    ]


def left_padded_logits(model: Any, rows: Rows) -> torch.Tensor:
    """Logits of three left-padded rows at all places that are not padding."""
    taken = [[*group.prompt, *group.completions[0]] for group in rows.groups[:3]]
    width = max(map(len, taken))
    ids_B_T = torch.tensor([[0] * (width - len(ids)) + ids for ids in taken])
    mask_B_T = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in taken])
    device = next(model.parameters()).device
    with torch.no_grad():
        logits = model(input_ids=ids_B_T.to(device), attention_mask=mask_B_T.to(device), use_cache=False).logits
    return torch.as_tensor(logits[:, -width:][mask_B_T.bool().to(device)])


def check_unchanged(before: torch.Tensor, after: torch.Tensor) -> Finding:
    """Rows without a plan are what they were before the model took plans."""
    found = float((before.float() - after.float()).abs().max())
    return Finding("without a plan", "logits of left-padded rows before and after the tree", found, 0.0)

"""Probe: log-probs of sixteen rows under a model, which tell whether it is the model that it is taken for.

Hashes tell which files a model was loaded from; only its own numbers tell what was made of them on the way (an adapter
that was left out, weights that were sharded before they were copied).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Trainer

from align.errors import RefusedError

NUM_ROWS = 16
_NUM_TOKENS = 256
"""Tokens of a row that are scored at most, which keeps the logits of a large vocabulary small."""
_TOLERANCES = {"float32": 1e-4, "bfloat16": 0.05}
"""Nats a token, on average over a row; by the coarser of the two arithmetics."""


@dataclass(frozen=True)
class Probe:
    """What was measured, as it is stored."""

    rows: list[list[int]]
    """Token ids of each row."""
    logps: list[float]
    """Nats a token of each row, on average over its tokens but the first."""
    compute: str
    """`float32` or `bfloat16`."""

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Probe:
        """From JSON."""
        return cls(data["rows"], data["logps"], data["compute"])


def measure(
    trainer: Trainer, model: Any, rows: Sequence[Sequence[int]], compute: str, context: AbstractContextManager[Any]
) -> Probe:
    """Score rows one at a time, so that no padding and no neighbour changes a digit.

    Under ZeRO-3 every rank must call this with the same rows.

    Args:
        model: the trainer's wrapped model, or its reference.
        context: entered around all of it, for example to switch an adapter off.
    """
    cut = [list(row[:_NUM_TOKENS]) for row in rows if len(row) > 1]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), context, trainer.accelerator.autocast():
            logps = [_mean_logp(model, row, trainer.args.device) for row in cut]
    finally:
        model.train(was_training)
    return Probe(cut, logps, compute)


def check_same(recorded: Probe, now: Probe, name: str) -> float:
    """Compare two scorings of the same rows.

    Returns:
        The largest difference in nats a token.

    Raises:
        RefusedError: when it is more than the arithmetic explains.
    """
    worst = max(abs(a - b) for a, b in zip(recorded.logps, now.logps, strict=True))
    allowed = max(_TOLERANCES[recorded.compute], _TOLERANCES[now.compute])
    if not worst <= allowed:
        raise RefusedError(
            f"reference: {name} gives other log-probs than when it was saved: {worst:.3g} nats a token apart on the "
            f"{len(recorded.rows)} recorded rows, {allowed:g} allowed. It was not loaded as what it is; train against "
            "it on one process to see whether the launcher makes the difference, and report this."
        )
    return worst


def _mean_logp(model: Any, row: list[int], device: torch.device) -> float:
    ids_1_T = torch.tensor([row], device=device)
    logits_T_V = model(input_ids=ids_1_T, attention_mask=torch.ones_like(ids_1_T), use_cache=False).logits[0, :-1]
    logps_T = logits_T_V.float().log_softmax(-1).gather(1, ids_1_T[0, 1:, None])[:, 0]
    return float(logps_T.mean())

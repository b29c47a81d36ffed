"""Reference: proves, before the first step, that policy and reference start as the same model.

With equal models every preference loss that only sees the difference starts at its value for zero (log 2 for the
sigmoid). A reference that is silently another model is the most reported fault of this field: the loss goes down and
the model gets worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from trl.trainer.utils import use_adapter

from align.errors import RefusedError
from align.training.health import ROW
from align.training.probe import Probe, measure

if TYPE_CHECKING:
    from trl import DPOTrainer

PER_TOKEN_TOLERANCE = 1e-5
"""Nats per completion token for a reference that is a second copy; with LoRA it is the same weights, so 0."""


def check_reference(trainer: DPOTrainer, num_rows: int = 8) -> float:
    """Score the same rows under policy and reference by the same route.

    Returns:
        The largest difference in nats per token over the rows and both sides.

    Raises:
        RefusedError: when it is above the tolerance.
    """
    batch = _batch(trainer, num_rows)
    was_training = trainer.model.training
    trainer.model.eval()
    try:
        reference = trainer.compute_ref_log_probs(trainer.ref_model or trainer.model_wrapped, batch)
        policy = _policy_logps(trainer, batch)
    finally:
        trainer.model.train(was_training)
    num_tokens_B = batch["completion_mask"][:, 1:].sum(dim=1).clamp(min=1)
    difference_B = (policy - torch.cat(list(reference))).abs().double() / num_tokens_B
    worst = float(difference_B.max())
    allowed = PER_TOKEN_TOLERANCE if trainer.ref_model is not None else 0.0
    if not worst <= allowed:
        raise RefusedError(
            f"reference: auto must start as the policy, but on the first {num_rows} rows they differ by {worst:.3g} "
            f"nats a token ({allowed:g} allowed). Either the reference is another model than the policy, or one is "
            "altered while loading (a non-zero adapter, dropout, other arithmetic). Set reference: to a model's name "
            "to train against another model on purpose."
        )
    return worst


def probe_reference(trainer: DPOTrainer, rows: Sequence[Sequence[int]], compute: str) -> Probe:
    """Score rows of token ids under the reference, the way training uses it."""
    if trainer.ref_model is not None:
        return measure(trainer, trainer.ref_model, rows, compute, nullcontext())
    return measure(trainer, trainer.model_wrapped, rows, compute, _without_policy_adapter(trainer))


def _without_policy_adapter(trainer: DPOTrainer) -> AbstractContextManager[Any]:
    """What TRL enters for the reference: the frozen copy of the adapter, or no adapter."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if not hasattr(model, "peft_config"):
        return nullcontext()  # full training before its first step: the policy is the reference
    context: AbstractContextManager[Any] = use_adapter(model, "ref" if "ref" in model.peft_config else None)
    return context


def _batch(trainer: DPOTrainer, num_rows: int) -> dict[str, Any]:
    """The first rows, collated as training collates them, without touching any random state."""
    rows = [trainer.train_dataset[index] for index in range(min(num_rows, len(trainer.train_dataset)))]
    batch = dict(trainer._prepare_inputs(trainer.data_collator(rows)))
    batch.pop(ROW, None)
    return batch


def _policy_logps(trainer: DPOTrainer, batch: dict[str, Any]) -> torch.Tensor:
    inputs = {key: value for key, value in batch.items() if key in ("input_ids", "attention_mask")}
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    with torch.no_grad(), trainer.accelerator.autocast():
        logps_B_T = trainer.model_wrapped(**inputs, labels=labels, fused_lm_head=True, use_cache=False).log_probs
    return torch.as_tensor(logps_B_T[:, -(labels.size(1) - 1) :].sum(dim=1))

"""Same reference: proves, before the first step, that policy and reference start as the same model.

With equal models every preference loss that only sees the difference starts at its value for zero (log 2 for the
sigmoid). A reference that is silently another model is the most reported fault of this field: the loss goes down and
the model gets worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from align.errors import RefusedError
from align.training.loop.health import ROW
from align.training.proof.probe import Probe, measure
from align.training.step.models import reference_adapter
from align.training.step.reference_logps import KEPT_TOLERANCES
from align.training.step.trainer import PreferenceTrainer

if TYPE_CHECKING:
    from trl import DPOTrainer

PER_TOKEN_TOLERANCE = 1e-5
"""Nats per completion token for a reference that is a second copy; with LoRA it is the same weights, so 0."""


def check_reference(trainer: DPOTrainer, compute: str, num_rows: int = 8) -> float:
    """Score the same rows under policy and reference by the same route; of a cached reference, what training reads.

    Args:
        compute: arithmetic, `float32` or `bfloat16`.

    Returns:
        The largest difference in nats per token over the rows and both sides.

    Raises:
        RefusedError: when it is above the tolerance.
    """
    batch = _batch(trainer, num_rows)
    was_training = trainer.model.training
    trainer.model.eval()
    try:
        with torch.no_grad(), trainer.accelerator.autocast():
            score = _scored_packs if isinstance(trainer, PreferenceTrainer) else _scored_rows
            policy, reference, num_tokens = score(trainer, batch)
    finally:
        trainer.model.train(was_training)
    worst = float(((policy - reference).abs().double() / num_tokens).max())
    allowed = PER_TOKEN_TOLERANCE if trainer.ref_model is not None else 0.0
    if trainer.args.precompute_ref_log_probs:  # other rows stood beside them
        allowed = KEPT_TOLERANCES[compute]
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
    model = trainer.model_wrapped if trainer.ref_model is None else trainer.ref_model
    return measure(trainer, model, rows, compute, reference_adapter(trainer))


def _batch(trainer: DPOTrainer, num_rows: int) -> dict[str, Any]:
    """The first rows, collated as training collates them, without touching any random state."""
    rows = [trainer.train_dataset[index] for index in range(min(num_rows, len(trainer.train_dataset)))]
    batch = dict(trainer._prepare_inputs(trainer.data_collator(rows)))
    batch.pop(ROW, None)
    return batch


def _scored_packs(trainer: PreferenceTrainer, batch: dict[str, Any]) -> tuple[torch.Tensor, ...]:
    """Of each completion its log-prob under policy and reference, and its tokens."""
    found = []
    for pack in batch["packs"]:
        policy_M = trainer.models.policy_fields(trainer.model_wrapped, pack)["log_probs"]
        reference_M = pack.ref_logps_M if pack.ref_logps_M is not None else trainer.models.reference_logps(pack)
        found.append((pack.layout.sums(policy_M), pack.layout.sums(reference_M), pack.num_tokens_C))
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))


def _scored_rows(trainer: DPOTrainer, batch: dict[str, Any]) -> tuple[torch.Tensor, ...]:
    """The same on TRL's path."""
    if trainer.precompute_ref_logps:
        reference = torch.cat([batch["ref_chosen_logps"], batch["ref_rejected_logps"]])
    else:
        reference = torch.cat(trainer.compute_ref_log_probs(trainer.ref_model or trainer.model_wrapped, batch))
    inputs = {key: value for key, value in batch.items() if key in ("input_ids", "attention_mask")}
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    logps_B_T = trainer.model_wrapped(**inputs, labels=labels, fused_lm_head=True, use_cache=False).log_probs
    policy = logps_B_T[:, -(labels.size(1) - 1) :].sum(dim=1)
    return policy, reference.to(policy.device), batch["completion_mask"][:, 1:].sum(dim=1).clamp(min=1)

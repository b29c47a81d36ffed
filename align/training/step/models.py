"""Preference models: policy and reference of a trainer, and the log-probs of packs under each."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from trl.models.utils import disable_gradient_checkpointing, prepare_deepspeed
from trl.trainer.utils import use_adapter

from align.training.step.choice import Forward
from align.training.step.cpu_head import score_completions_only
from align.training.step.packs import Pack
from align.training.step.scores import policy_outputs, score_pack
from align.training.step.tree_forward import score_trees
from align.tree.layout import TokenGroup

if TYPE_CHECKING:
    from trl import DPOTrainer


class PreferenceModels:
    """As TRL has them: the reference is a model of its own, or the policy with another adapter or none."""

    def __init__(self, trainer: DPOTrainer, forward: Forward) -> None:
        self._trainer = trainer
        self._forward = forward
        self._is_prepared = False
        self._engine: Any = None

    def prepare(self) -> None:
        """Let policy and reference take packs; once, before an engine wraps the policy."""
        if self._is_prepared:
            return
        self._is_prepared = True
        trainer = self._trainer
        for model, fields in ((trainer.model, self._fields), (trainer.ref_model, ("log_probs",))):
            if model is None:
                continue
            if self._forward == "tree":
                score_trees(getattr(model, "module", model))
            else:
                score_completions_only(model, fields)

    @property
    def _fields(self) -> tuple[str, ...]:
        return policy_outputs(self._trainer.use_weighting)

    def policy_fields(self, model: Any, pack: Pack) -> dict[str, torch.Tensor]:
        """Fields of shape [M] under the policy, with gradient unless the caller switched it off."""
        return score_pack(model, pack, self._fields)

    def reference_logps(self, pack: Pack) -> torch.Tensor:
        """Log-probs of shape [M] under the reference, computed now: without gradient, dropout and checkpointing."""
        model = self._trainer.model
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad(), self._without_checkpointing(), reference_adapter(self._trainer):
                return score_pack(self._reference(), pack)["log_probs"].detach()
        finally:
            model.train(was_training)

    def score_reference(self, groups: Sequence[TokenGroup]) -> list[torch.Tensor]:
        """Token log-probs of each completion of some groups, in order, under the reference."""
        self.prepare()
        trainer = self._trainer
        rows = [
            {"prompt_ids": group.prompt, "completions_ids": group.completions, "pairs": [[0, 0]]} for group in groups
        ]
        pack = trainer.data_collator.pack(rows).to(trainer.accelerator.device)
        with trainer.accelerator.autocast():
            return list(torch.split(self.reference_logps(pack).cpu(), pack.num_tokens_C.tolist()))

    def _reference(self) -> Any:
        trainer = self._trainer
        if trainer.ref_model is not None:
            return trainer.ref_model
        if trainer.model_wrapped is trainer.model and trainer.is_deepspeed_enabled:  # before training: in no engine yet
            self._engine = self._engine or prepare_deepspeed(trainer.model, trainer.accelerator)
            return self._engine
        return trainer.model_wrapped

    def _without_checkpointing(self) -> contextlib.AbstractContextManager[Any]:
        trainer = self._trainer
        model = trainer.accelerator.unwrap_model(trainer.model)
        context: contextlib.AbstractContextManager[Any] = disable_gradient_checkpointing(
            model, trainer.args.gradient_checkpointing_kwargs
        )
        return context


def reference_adapter(trainer: DPOTrainer) -> contextlib.AbstractContextManager[Any]:
    """What TRL enters for a reference that is the policy: the frozen copy of the adapter, or no adapter."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if trainer.ref_model is not None or not hasattr(model, "peft_config"):
        return contextlib.nullcontext()  # a model of its own; or full training before its first step
    context: contextlib.AbstractContextManager[Any] = use_adapter(
        model, adapter_name="ref" if "ref" in model.peft_config else None
    )
    return context

"""DPO: direct preference optimization (arXiv 2305.18290) and the losses of its family that TRL has.

python -m align.recipes.dpo recipes/X.yaml output_dir=runs/x trainer.max_steps=50
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from align import models
from align.config import Location, did_you_mean
from align.data.pair import PreferencePair
from align.evaluation.settings import CompareSettings
from align.installed import DPO_CONFIG, PassThrough
from align.recipes.base import Recipe
from align.recipes.settings import PASS_THROUGH_LORA, RecipeSettings, owned_arguments

if TYPE_CHECKING:
    from trl import DPOTrainer

    from align.training.probe import Probe

REFERENCE_LOSSES = frozenset(
    [
        "sigmoid",
        "hinge",
        "ipo",
        "exo_pair",
        "nca_pair",
        "robust",
        "bco_pair",
        "sppo_hard",
        "aot",
        "aot_unpaired",
        "apo_zero",
        "apo_down",
        "discopop",
        "sigmoid_norm",
    ]
)
"""TRL's losses that need a reference model; `sft` is its only other one."""

SORTING_LOSSES = frozenset({"aot", "aot_unpaired"})
"""They sort the batch, so cutting it into micro-batches changes the loss."""

_ONLY_WITH_LOSS = {
    "label_smoothing": frozenset({"robust", "exo_pair"}),
    "discopop_tau": frozenset({"discopop"}),
}
"""Arguments that TRL takes with every loss and uses with these only (measured for label_smoothing in 0.29 to 1.16)."""

_ONLY_WITH = {
    "f_alpha_divergence_coef": ("f_divergence_type", "alpha_divergence"),
    "ref_model_mixup_alpha": ("sync_ref_model", True),
    "ref_model_sync_steps": ("sync_ref_model", True),
    "precompute_ref_batch_size": ("precompute_ref_log_probs", True),
}
"""Argument → (other argument, the value without which TRL ignores it)."""


class DPOSettings(RecipeSettings):
    """Settings of direct preference optimization."""

    pass_through: ClassVar[Mapping[str, PassThrough]] = {"trainer": DPO_CONFIG, **PASS_THROUGH_LORA}

    reference: str = "auto"
    """`auto`: the model that training starts from; or the name of another model."""
    compare: CompareSettings | None = None
    """How `align compare` shows what training did."""

    @classmethod
    def mistakes(cls, raw: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
        """Refused arguments, unknown losses, and arguments that TRL would accept and ignore."""
        yield from owned_arguments(raw)
        trainer = raw.get("trainer")
        if isinstance(trainer, Mapping):
            yield from _loss_mistakes(trainer)
            yield from _ignored_arguments(trainer)


class DPORecipe(Recipe[DPOSettings]):
    """Direct preference optimization on preference pairs, with LoRA or full.

    With `reference: auto` the run stops with exit code 8 unless policy and reference start as the same model.
    """

    config_class = DPOSettings
    row_class = PreferencePair
    sides = ("chosen", "rejected")

    def build_trainer(self) -> DPOTrainer:
        """TRL's DPOTrainer. Without a reference of its own it uses the starting weights (LoRA: adapter off)."""
        from trl import DPOConfig, DPOTrainer

        arguments = DPOConfig(**self.trainer_arguments())  # first: it tells transformers to shard while loading
        trainer = DPOTrainer(
            model=self.policy(),
            ref_model=self._reference_model(),
            args=arguments,
            train_dataset=self.dataset("train"),
            eval_dataset=self.dataset("eval"),
            processing_class=self.tokenizer,
            peft_config=self.lora_config(),
        )
        from align.training.logprobs import score_completions_only

        outputs = ("log_probs", "entropy", "mean_logits", "is_top1")
        score_completions_only(trainer.model, (*outputs, "log_sum_sq_probs") if trainer.use_weighting else outputs)
        if trainer.ref_model is not None:
            score_completions_only(trainer.ref_model, ("log_probs",))
        return trainer

    def identity(self) -> dict[str, Any]:
        """With the files of a reference that is another model."""
        if self.settings.reference == "auto":
            return super().identity()
        return {**super().identity(), "reference": self._reference_files}

    def check(self, trainer: DPOTrainer) -> dict[str, Any]:
        """With `auto`, and a loss that has a reference: policy and reference start as the same model."""
        losses = _losses(self.settings.trainer)
        if not REFERENCE_LOSSES & set(losses):
            print(f"  reference: none ({', '.join(losses)} has none)")
            return {"reference": "none"}
        probe = self._probe_reference(trainer)
        if self.settings.reference != "auto":
            print(f"  reference: {self.settings.reference}")
            return {"reference": self.settings.reference, "reference_probe": probe}
        from align.training.reference import check_reference

        kind = f"auto: {self.starting_reference()}"
        difference = check_reference(trainer)
        sha256 = (self.model_files["adapter"] or self.model_files["weights"] or "")[:12]
        print(f"  reference: {kind} (sha256 {sha256}); differs from the policy by {difference:g} nats a token")
        return {
            "reference": kind,
            "reference_files": self.model_files,
            "reference_difference_per_token": difference,
            "reference_probe": probe,
        }

    def check_resumed(self, trainer: DPOTrainer, findings: dict[str, Any]) -> None:
        """The reference is still the one that training began with."""
        recorded = findings.get("reference_probe")
        if recorded is None or (trainer.ref_model is None and not hasattr(trainer.model, "peft_config")):
            return  # no reference, or its log-probs were precomputed from the weights before the first step
        _, worst = self._score_again(trainer, recorded, findings["reference"])
        print(f"  reference: {findings['reference']}; as at the start, to {worst:.1g} nats a token")

    def _probe_reference(self, trainer: DPOTrainer) -> dict[str, Any]:
        """Log-probs of probe rows under the reference: those its own run has recorded, else of this run's rows."""
        from align.training.reference import probe_reference

        recorded = models.read_identity(self._reference, self._reference_files)
        if recorded is None:
            return asdict(probe_reference(trainer, self.probe_rows(), self.settings.compute))
        now, worst = self._score_again(trainer, recorded["probe"], self._reference.name)
        print(f"  reference: is {self._reference.name} as its run saved it, to {worst:.1g} nats a token")
        return asdict(now)

    def _score_again(self, trainer: DPOTrainer, recorded: dict[str, Any], name: str) -> tuple[Probe, float]:
        """Recorded rows scored under the reference, and how far that is from the record in nats a token."""
        from align.training.probe import Probe, check_same
        from align.training.reference import probe_reference

        now = probe_reference(trainer, recorded["rows"], self.settings.compute)
        return now, check_same(Probe.from_dict(recorded), now, name)

    @cached_property
    def _reference(self) -> models.ResolvedModel:
        return self.model if self.settings.reference == "auto" else models.resolve(self.settings.reference)

    @cached_property
    def _reference_files(self) -> dict[str, str | None]:
        return self.model_files if self.settings.reference == "auto" else models.fingerprints(self._reference)

    def _reference_model(self) -> Any:
        if self.settings.reference == "auto":
            return None
        return models.load_model(self._reference, dtype=self._storage_dtype())


def _losses(trainer: Mapping[str, Any]) -> list[str]:
    named = trainer.get("loss_type", "sigmoid")
    return [named] if isinstance(named, str) else list(named)


def _loss_mistakes(trainer: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
    location = ("trainer", "loss_type")
    known = {*REFERENCE_LOSSES, "sft"}
    for loss in _losses(trainer):
        if loss not in known:
            yield (
                location,
                f"trainer.loss_type: {loss!r} is not a loss of TRL's{did_you_mean(str(loss), sorted(known))}",
            )
        elif loss in SORTING_LOSSES and trainer.get("gradient_accumulation_steps", 1) != 1:
            sentence = f"{loss} sorts the batch, so accumulation changes it; set gradient_accumulation_steps: 1"
            yield location, f"trainer.loss_type: {sentence}"


def _ignored_arguments(trainer: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
    losses = set(_losses(trainer))
    for name, needed in _ONLY_WITH_LOSS.items():
        if trainer.get(name) and not losses & needed:
            sentence = (
                f"TRL ignores it with loss_type {', '.join(sorted(losses))}; it counts with {', '.join(sorted(needed))}"
            )
            yield ("trainer", name), f"trainer.{name} is refused: {sentence}"
    for name, (other, value) in _ONLY_WITH.items():
        if name in trainer and trainer.get(other) != value:
            yield ("trainer", name), f"trainer.{name} is refused: TRL ignores it unless {other} is {value!r}"


if __name__ == "__main__":
    raise SystemExit(DPORecipe.main())

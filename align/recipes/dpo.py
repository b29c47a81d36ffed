"""DPO: direct preference optimization (arXiv 2305.18290) and the losses of its family.

python -m align.recipes.dpo recipes/X.yaml output_dir=runs/x trainer.max_steps=50
"""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from align.data.rows.pair import Group, PairOrGroup
from align.errors import ConfigError
from align.models.identity import fingerprints, read_identity
from align.models.load import end_token_ids, load_model
from align.models.resolve import ResolvedModel, resolve
from align.recipes.base import ReadyRows, Recipe
from align.recipes.settings.dpo import DPOSettings
from align.training.loss.objective import Objective, objective
from align.training.loss.registry import check_batch_is_whole, needs_our_path, needs_trl_path

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import DPOTrainer

    from align.data.files.rows import RowFile
    from align.training.proof.probe import Probe
    from align.training.step.choice import Choice
    from align.training.step.reference_cache import ReferenceCache
    from align.training.step.trainer import PreferenceTrainer


class DPORecipe(Recipe[DPOSettings]):
    """Direct preference optimization on preference pairs, with LoRA or full.

    With `reference: auto` the run stops with exit code 8 unless policy and reference start as the same model.
    """

    config_class = DPOSettings
    row_class = PairOrGroup
    sides = ("chosen", "rejected")
    forward: Choice

    def build_trainer(self) -> DPOTrainer:
        """TRL's trainer or ours. Without a reference of its own it uses the starting weights (LoRA: adapter off)."""
        from trl import DPOConfig

        arguments = DPOConfig(**self.trainer_arguments())  # first: it tells transformers to shard while loading
        reasons = self.needs_trl_path
        print(f"  path: {'TRL, since ' + '; '.join(reasons) if reasons else 'align'}")
        make = self._trl_trainer if reasons else self._preference_trainer
        return make(
            args=arguments,
            train_dataset=self.dataset("train"),
            eval_dataset=self.dataset("eval"),
            processing_class=self.tokenizer,
            peft_config=self.lora_config(),
            ref_model=self._reference_model(),
        )

    @cached_property
    def needs_trl_path(self) -> list[str]:
        """Why stock TRL must run; empty when our path does.

        Raises:
            ConfigError: another setting needs our path.
        """
        reasons = needs_trl_path(self.settings.trainer)
        config = self.model_config.get_text_config()
        coefficient = self.settings.trainer.get("router_aux_loss_coef")
        coefficient = getattr(config, "router_aux_loss_coef", 0.0) if coefficient is None else coefficient
        if hasattr(config, "output_router_logits") and coefficient and not reasons:
            reasons = ["the model balances its experts by a loss of its own (router_aux_loss_coef: 0.0 leaves it out)"]
        ours = needs_our_path(self.settings.trainer, self.settings.loss.model_dump(exclude_unset=True))
        if self.settings.forward == "tree":
            ours.append("forward: tree: TRL pads")
        if self.settings.tokens_per_forward is not None:
            ours.append("tokens_per_forward: TRL computes a micro-batch in one forward")
        if any(isinstance(row, Group) for row in self.rows["train"].rows):
            ours.append("train_data: has rows of scored candidates, TRL takes pairs")
        if reasons and ours:
            raise ConfigError(f"{'; '.join(reasons)}: only TRL's path does it; but {'; '.join(ours)}. Leave one out.")
        return reasons

    @cached_property
    def model_config(self) -> Any:
        """transformers' config of the model."""
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(self.model.path)

    @cached_property
    def objective(self) -> Objective:
        """The losses that are summed, with their options."""
        return objective(self.settings.trainer, self.settings.loss)

    def make_ready(self, name: Literal["train", "eval"], file: RowFile[Any]) -> ReadyRows:
        """The rows that fit, as token ids on our path, as TRL takes them on its own."""
        if self.needs_trl_path:
            return super().make_ready(name, file)
        from align.training.rows.dataset import preference_dataset

        dataset, report = preference_dataset(
            file.rows,
            [f"{file.path}:{line}" for line in file.lines],
            self.tokenizer,
            self.settings.trainer.get("max_length", 1024),
            self.settings.data.on_bad_rows,
            end_token_ids(self.model),
            self.settings.data.least_score_gap,
        )
        return ReadyRows(dataset if name == "train" else dataset.remove_columns("row"), report)

    def _trl_trainer(self, **arguments: Any) -> DPOTrainer:
        from trl import DPOTrainer

        from align.training.step.cpu_head import score_completions_only
        from align.training.step.scores import policy_outputs

        trainer = DPOTrainer(model=self.policy(), **arguments)
        score_completions_only(trainer.model, policy_outputs(trainer.use_weighting))
        if trainer.ref_model is not None:
            score_completions_only(trainer.ref_model, ("log_probs",))
        return trainer

    def _preference_trainer(self, **arguments: Any) -> PreferenceTrainer:
        from align.training.step.trainer import PreferencePath, PreferenceTrainer

        model = self.policy()
        self.forward = self.ranks.first(lambda: self._choose_forward(model, arguments["train_dataset"]))
        print(f"  {self.forward}")
        path = PreferencePath(
            objective=self.objective,
            forward=self.forward.forward,
            compute=self.settings.compute,
            tokens_per_forward=self.settings.tokens_per_forward,
            cache=self._reference_cache() if arguments["args"].precompute_ref_log_probs else None,
        )
        return PreferenceTrainer(path, model=model, **arguments)

    def _choose_forward(self, model: Any, dataset: Dataset) -> Choice:
        """The first process chooses for all: they must not compute differently."""
        from align.training.rows.dataset import lengths
        from align.training.step.choice import Choice, choose_forward
        from align.training.step.tree_forward import why_no_tree

        if self.settings.forward == "auto" and not isinstance(model, str) and (reason := why_no_tree(model)):
            return Choice("padded", reason)
        return choose_forward(
            lengths(dataset),
            self.model_config,
            self.settings.forward,
            self.settings.trainer.get("per_device_train_batch_size", 8),
            compute=self.settings.compute,
            model=self.settings.model,
        )

    def _reference_cache(self) -> ReferenceCache | None:
        """None where the reference's files cannot be told apart."""
        from align.training.step.reference_cache import ReferenceCache

        if None in self._reference_files.values() and not any(self._reference_files.values()):
            return None
        return ReferenceCache(
            {
                "files": self._reference_files,
                "compute": self.settings.compute,
                "storage": self._storage_dtype(),
                "forward": self.forward.forward,
            }
        )

    def identity(self) -> dict[str, Any]:
        """With the files of a reference that is another model."""
        if self.settings.reference == "auto":
            return super().identity()
        return {**super().identity(), "reference": self._reference_files}

    def check(self, trainer: DPOTrainer) -> dict[str, Any]:
        """With `auto`, and a loss that has a reference: policy and reference start as the same model."""
        losses = [name for name, _ in self.objective.losses]
        check_batch_is_whole(losses, trainer.args.gradient_accumulation_steps, self.ranks.world_size)
        chosen = {"loss": self.objective.described(), "path": "TRL" if self.needs_trl_path else str(self.forward)}
        return {**chosen, **self._check_reference(trainer, losses)}

    def _check_reference(self, trainer: DPOTrainer, losses: list[str]) -> dict[str, Any]:
        if not self.objective.needs_reference:
            print(f"  reference: none ({', '.join(losses)} has none)")
            return {"reference": "none"}
        probe = self._probe_reference(trainer)
        if self.settings.reference != "auto":
            print(f"  reference: {self.settings.reference}")
            return {"reference": self.settings.reference, "reference_probe": probe}
        from align.training.proof.same_reference import check_reference

        kind = f"auto: {self.starting_reference()}"
        difference = check_reference(trainer, self.settings.compute)
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
        from align.training.proof.same_reference import probe_reference

        recorded = read_identity(self._reference, self._reference_files)
        if recorded is None:
            return asdict(probe_reference(trainer, self.probe_rows(), self.settings.compute))
        now, worst = self._score_again(trainer, recorded["probe"], self._reference.name)
        print(f"  reference: is {self._reference.name} as its run saved it, to {worst:.1g} nats a token")
        return asdict(now)

    def _score_again(self, trainer: DPOTrainer, recorded: dict[str, Any], name: str) -> tuple[Probe, float]:
        """Recorded rows scored under the reference, and how far that is from the record in nats a token."""
        from align.training.proof.probe import Probe, check_same
        from align.training.proof.same_reference import probe_reference

        now = probe_reference(trainer, recorded["rows"], self.settings.compute)
        return now, check_same(Probe.from_dict(recorded), now, name)

    @cached_property
    def _reference(self) -> ResolvedModel:
        return self.model if self.settings.reference == "auto" else resolve(self.settings.reference)

    @cached_property
    def _reference_files(self) -> dict[str, str | None]:
        return self.model_files if self.settings.reference == "auto" else fingerprints(self._reference)

    def _reference_model(self) -> Any:
        if self.settings.reference == "auto" or not self.objective.needs_reference:
            return None
        return load_model(self._reference, dtype=self._storage_dtype())


if __name__ == "__main__":
    raise SystemExit(DPORecipe.main())

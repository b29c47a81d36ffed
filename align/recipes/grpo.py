"""GRPO: group relative policy optimization (arXiv 2402.03300) on rewards named by dotted path.

python -m align.recipes.grpo recipes/X.yaml output_dir=runs/x trainer.max_steps=50
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from align.data.rows.task import Task
from align.errors import ConfigError
from align.recipes.base import ReadyRows, Recipe
from align.recipes.settings.grpo import GRPOSettings
from align.settings.dotted import source_sha256

if TYPE_CHECKING:
    from trl import GRPOTrainer

    from align.data.files.rows import RowFile

_CHOICES = (
    "loss_type",
    "beta",
    "scale_rewards",
    "num_generations",
    "num_iterations",
    "epsilon",
    "epsilon_high",
    "importance_sampling_level",
    "multi_objective_aggregation",
    "temperature",
    "max_completion_length",
    "mask_truncated_completions",
)
"""Arguments whose defaults shape the method, and have changed between versions of TRL; all of them are recorded."""


class GRPORecipe(Recipe[GRPOSettings]):
    """Group relative policy optimization: several completions of a prompt, scored by rewards, with LoRA or full.

    Rows are `{"prompt": [...], any other column}`; the other columns go to the rewards. Preference pairs will do.
    """

    config_class = GRPOSettings
    row_class = Task
    sides = ()

    @cached_property
    def reward_functions(self) -> list[Callable[..., Any]]:
        """The rewards as TRL calls them; each has a `__name__` of its own."""
        from align.training.grpo.reward_functions import check_signature, distinct_names, reward_function

        columns = list({name: None for file in self.rows.values() for row in file.rows for name in row.columns})
        names = distinct_names([one.use.rpartition(".")[2] for one in self.settings.rewards])
        rewards = [one.load() for one in self.settings.rewards]
        for reward, name in zip(rewards, names, strict=True):
            if not callable(reward):
                raise ConfigError(f"rewards: {name} must be callable, but is {type(reward).__name__}")
            check_signature(reward, name, columns)
        return [reward_function(reward, name) for reward, name in zip(rewards, names, strict=True)]

    def build_trainer(self) -> GRPOTrainer:
        """TRL's GRPOTrainer. With `beta` above 0 its reference is the starting weights (LoRA: adapter off)."""
        rewards = self.reward_functions
        from trl import GRPOConfig, GRPOTrainer

        args = GRPOConfig(**self.trainer_arguments())
        train_dataset = self.dataset("train")
        self._check_enough_prompts(args.generation_batch_size // args.num_generations)
        trainer = GRPOTrainer(
            model=self.policy(),
            reward_funcs=rewards,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=self.dataset("eval"),
            processing_class=self.tokenizer,
            peft_config=self.lora_config(),
        )
        from align.training.step.cpu_head import score_completions_only, spare_head_copies

        spare_head_copies(trainer.model)
        if not args.cast_lm_head_to_fp32:
            score_completions_only(trainer.model, ("log_probs", "entropy"), args.temperature)
            if trainer.ref_model is not None:
                score_completions_only(trainer.ref_model, ("log_probs",), args.temperature)
        return trainer

    def trainer_arguments(self) -> dict[str, Any]:
        """Also the weights of the rewards. TRL's own evaluation samples; it runs only where it is asked for."""
        weights = [one.weight for one in self.settings.rewards]
        evaluation = self.settings.trainer.get("eval_strategy", "no")
        return {**super().trainer_arguments(), "eval_strategy": evaluation, "reward_weights": weights}

    def make_ready(self, name: Literal["train", "eval"], file: RowFile[Any]) -> ReadyRows:
        """The prompts that leave room for a completion, each with its columns as one text."""
        from datasets import Dataset

        from align.training.grpo.reward_functions import packed_columns
        from align.training.rows.check import check_prompts

        prompts = [row.to_dict()["prompt"] for row in file.rows]
        kept, report = check_prompts(
            prompts,
            [f"{file.path}:{line}" for line in file.lines],
            self.tokenizer,
            self._context,
            self.settings.trainer.get("max_completion_length", 512),
            self.settings.data.on_bad_rows,
            self.settings.trainer.get("chat_template_kwargs") or {},
        )
        columns = packed_columns([row.columns for row in file.rows])
        dataset = Dataset.from_list([{"prompt": prompts[i], "columns": columns[i], "row": i} for i in kept])
        return ReadyRows(dataset, report)

    def check(self, trainer: GRPOTrainer) -> dict[str, Any]:
        """Print what the method is, and measure the held-out rows before the first step."""
        args = trainer.args
        choices = {name: getattr(args, name) for name in _CHOICES}
        if args.beta:
            choices["use_bias_correction_kl"] = args.use_bias_correction_kl
        num_prompts = args.generation_batch_size // args.num_generations
        weights = ", ".join(
            f"{one.__name__} × {two.weight:g}"
            for one, two in zip(self.reward_functions, self.settings.rewards, strict=True)
        )
        reference = self._kind_of_reference(trainer)
        print(f"  rewards: {weights}")
        print(f"  reference: {reference}")
        print("  " + ", ".join(f"{name} {value}" for name, value in choices.items() if value is not None))
        print(f"  one generation: {num_prompts} prompts × {args.num_generations} completions")
        return {**choices, "rewards": weights, "reference": reference, **self._heldout(trainer, "before")}

    def after_training(self, trainer: GRPOTrainer, findings: dict[str, Any]) -> dict[str, Any]:
        """Measure the held-out rows again, and print both."""
        measured = self._heldout(trainer, "after")
        if measured:
            before, after = findings["heldout_before"], measured["heldout_after"]
            change = {name: f"{_shown(before[name])} -> {_shown(after[name])}" for name in after}
            print(f"  held-out (greedy): {change.pop('reward')} on {findings['heldout_prompts']} prompts")
            for name, values in change.items() if len(change) > 1 else ():
                print(f"    {name} {values}")
        return measured

    def identity(self) -> dict[str, Any]:
        """With the files that the rewards are written in: a changed reward is another loss."""
        files = {one.use: source_sha256(one.use.rpartition(".")[0]) for one in self.settings.rewards}
        return {**super().identity(), "rewards": files}

    def may_save(self, trainer: GRPOTrainer) -> bool:
        """Completions live in memory only, so a run goes on exactly from where the next ones are sampled."""
        return is_generation_boundary(trainer)

    @cached_property
    def _context(self) -> int | None:
        """Tokens that the model was made for."""
        from transformers import AutoConfig

        return getattr(AutoConfig.from_pretrained(self.model.path).get_text_config(), "max_position_embeddings", None)

    def _check_enough_prompts(self, num_prompts: int) -> None:
        num_rows = self.tokens.num_rows
        if num_rows < num_prompts:
            raise ConfigError(
                f"train_data: one generation takes {num_prompts} prompts, but there are {num_rows}; TRL would train on "
                "nothing. Add rows, or lower trainer.per_device_train_batch_size or raise trainer.num_generations"
            )

    def _kind_of_reference(self, trainer: GRPOTrainer) -> str:
        if trainer.beta == 0:
            return "none (beta is 0)"
        if self.model.adapter is not None:
            return self.starting_reference()
        return f"{self.starting_reference()} (sha256 {(self.model_files['weights'] or '')[:12]})"

    def _heldout(self, trainer: GRPOTrainer, when: Literal["before", "after"]) -> dict[str, Any]:
        if trainer.eval_dataset is None:
            return {}
        from align.training.grpo.greedy import greedy_rewards

        num_prompts = len(trainer.eval_dataset)
        rewards = greedy_rewards(trainer, trainer.eval_dataset)
        print(f"  held-out (greedy) {when}: {_shown(rewards['reward'])} on {num_prompts} prompts", flush=True)
        return {f"heldout_{when}": rewards, "heldout_prompts": num_prompts}


def is_generation_boundary(trainer: GRPOTrainer) -> bool:
    """Whether the next step samples new completions: nothing is lost when a run goes on from a checkpoint made here."""
    return bool(trainer._step % (trainer.args.steps_per_generation * trainer.num_iterations) == 0)


def _shown(reward: float | None) -> str:
    return "no score" if reward is None else f"{reward:.2f}"


if __name__ == "__main__":
    raise SystemExit(GRPORecipe.main())

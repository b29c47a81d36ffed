"""GRPO: group relative policy optimization (arXiv 2402.03300) on rewards named by dotted path.

python -m align.recipes.grpo recipes/X.yaml output_dir=runs/x trainer.max_steps=50
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from align.config import Location, did_you_mean
from align.data.task import Task
from align.dotted import UseSettings
from align.errors import ConfigError
from align.installed import GRPO_CONFIG, PassThrough
from align.recipes.base import Recipe
from align.recipes.settings import PASS_THROUGH_LORA, RecipeSettings, owned_arguments

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import GRPOTrainer

LOSSES = ("dapo", "grpo", "dr_grpo", "bnpo", "cispo", "sapo", "luspo", "vespo")
"""TRL's losses; the first is its default."""

_CLIPPED = ("dapo", "grpo", "dr_grpo", "bnpo", "luspo")

_REFUSED = {
    "reward_weights": "set weight: beside use: in rewards",
    "max_tool_calling_iterations": "tools are not supported yet in this version, and it counts with tools only",
    "use_transformers_paged": "TRL has deprecated it",
    "vllm_importance_sampling_cap": "TRL has deprecated it; set vllm_importance_sampling_clip_max",
}
"""Arguments that TRL takes and that this recipe does not; each with what to do instead."""

_ONLY_WITH: dict[str, tuple[str, Any, tuple[Any, ...]]] = {
    "delta": ("loss_type", "dapo", _CLIPPED),
    "epsilon": ("loss_type", "dapo", _CLIPPED),
    "epsilon_high": ("loss_type", "dapo", (*_CLIPPED, "cispo")),
    **dict.fromkeys(("sapo_temperature_neg", "sapo_temperature_pos"), ("loss_type", "dapo", ("sapo",))),
    **dict.fromkeys(
        ("vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg"), ("loss_type", "dapo", ("vespo",))
    ),
    **dict.fromkeys(("ref_model_mixup_alpha", "ref_model_sync_steps"), ("sync_ref_model", False, (True,))),
    **dict.fromkeys(
        ("entropy_coef_min", "entropy_coef_max", "entropy_coef_delta", "entropy_target"),
        ("use_adaptive_entropy", False, (True,)),
    ),
    **dict.fromkeys(
        ("num_completions_to_print", "log_unique_prompts", "log_completions_hub_repo"),
        ("log_completions", False, (True,)),
    ),
    "transformers_continuous_batching_config": ("use_transformers_continuous_batching", False, (True,)),
    "scale_rewards": ("multi_objective_aggregation", "sum_then_normalize", ("sum_then_normalize",)),
    "cache_implementation": ("use_vllm", False, (False,)),
    **dict.fromkeys(
        ("vllm_server_base_url", "vllm_server_host", "vllm_server_port", "vllm_server_timeout", "vllm_group_port"),
        ("vllm_mode", "colocate", ("server",)),
    ),
    **dict.fromkeys(
        ("vllm_gpu_memory_utilization", "vllm_max_model_length", "vllm_tensor_parallel_size"),
        ("vllm_mode", "colocate", ("colocate",)),
    ),
}
"""Argument → (other argument, its default, the values of it without which TRL ignores the first)."""

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


class RewardSettings(UseSettings):
    """A reward, and how much it counts."""

    weight: float = Field(default=1.0, allow_inf_nan=False)
    """Factor of its scores in the sum; 0 only shows them."""


class GRPOSettings(RecipeSettings):
    """Settings of group relative policy optimization."""

    pass_through: ClassVar[Mapping[str, PassThrough]] = {"trainer": GRPO_CONFIG, **PASS_THROUGH_LORA}

    rewards: list[RewardSettings] = Field(min_length=1)
    """What scores a completion: `{use: my_package.my_reward, weight: 1.0}`; other keys are its keyword arguments."""
    eval_data: str | None = None
    """Rows whose greedy answers are scored before the first step and after the last."""

    @classmethod
    def mistakes(cls, raw: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
        """Refused arguments, unknown losses, arguments that TRL would ignore, and batches that hold no whole groups."""
        yield from owned_arguments(raw)
        trainer = raw.get("trainer")
        if not isinstance(trainer, Mapping):
            return
        for name in _REFUSED.keys() & trainer.keys():
            yield ("trainer", name), f"trainer.{name} is refused: {_REFUSED[name]}"
        yield from _ignored_arguments(trainer)
        yield from _generation_mistakes(raw.get("compute", "bfloat16"), trainer)
        yield from _batch_mistakes(trainer)


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
        from align.training.reward_functions import check_signature, distinct_names, reward_function

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
        from align.training.logprobs import score_completions_only, spare_head_copies

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

    def dataset(self, name: Literal["train", "eval"]) -> Dataset | None:
        """The prompts that leave room for a completion, each with its columns as one text."""
        from datasets import Dataset

        from align.training.reward_functions import packed_columns
        from align.training.tokens import check_prompts

        file = self.rows.get(name)
        if file is None:
            return None
        prompts = [row.to_dict()["prompt"] for row in file.rows]
        kept, self.tokens[name] = check_prompts(
            prompts,
            [f"{file.path}:{line}" for line in file.lines],
            self.tokenizer,
            self._context,
            self.settings.trainer.get("max_completion_length", 512),
            self.settings.data.on_bad_rows,
            self.settings.trainer.get("chat_template_kwargs") or {},
        )
        columns = packed_columns([row.columns for row in file.rows])
        return Dataset.from_list([{"prompt": prompts[i], "columns": columns[i], "row": i} for i in kept])

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

    def may_save(self, trainer: GRPOTrainer) -> bool:
        """Completions live in memory only, so a run goes on exactly from where the next ones are sampled."""
        return is_generation_boundary(trainer)

    @cached_property
    def _context(self) -> int | None:
        """Tokens that the model was made for."""
        from transformers import AutoConfig

        return getattr(AutoConfig.from_pretrained(self.model.path).get_text_config(), "max_position_embeddings", None)

    def _check_enough_prompts(self, num_prompts: int) -> None:
        num_rows = self.tokens["train"].num_rows
        if num_rows < num_prompts:
            raise ConfigError(
                f"train_data: one generation takes {num_prompts} prompts, but there are {num_rows}; TRL would train on "
                "nothing. Add rows, or lower trainer.per_device_train_batch_size or raise trainer.num_generations"
            )

    def _kind_of_reference(self, trainer: GRPOTrainer) -> str:
        if trainer.beta == 0:
            return "none (beta is 0)"
        if self.model.adapter is not None:
            return f"a frozen copy of the adapter {self.model.adapter} that training starts from"
        if self.settings.lora is not None:
            return f"the base weights, adapter switched off (sha256 {self.model_sha256[:12]})"
        return f"a frozen copy of the model that training starts from (sha256 {self.model_sha256[:12]})"

    def _heldout(self, trainer: GRPOTrainer, when: Literal["before", "after"]) -> dict[str, Any]:
        if trainer.eval_dataset is None:
            return {}
        from align.training.greedy import greedy_rewards

        num_prompts = len(trainer.eval_dataset)
        rewards = greedy_rewards(trainer, trainer.eval_dataset)
        print(f"  held-out (greedy) {when}: {_shown(rewards['reward'])} on {num_prompts} prompts", flush=True)
        return {f"heldout_{when}": rewards, "heldout_prompts": num_prompts}


def is_generation_boundary(trainer: GRPOTrainer) -> bool:
    """Whether the next step samples new completions: nothing is lost when a run goes on from a checkpoint made here."""
    return bool(trainer._step % (trainer.args.steps_per_generation * trainer.num_iterations) == 0)


def _ignored_arguments(trainer: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
    loss = trainer.get("loss_type", LOSSES[0])
    if loss not in LOSSES:
        hint = did_you_mean(str(loss), LOSSES)
        yield ("trainer", "loss_type"), f"trainer.loss_type: {loss!r} is not a GRPO loss of TRL's{hint}"
    for name, (other, default, needed) in _ONLY_WITH.items():
        value = trainer.get(other, default)
        if name in trainer and value not in needed and (other != "loss_type" or loss in LOSSES):
            with_these = " or ".join(map(repr, needed))
            yield ("trainer", name), f"trainer.{name} is refused: TRL ignores it unless {other} is {with_these}"
    for name in trainer:
        if str(name).startswith("vllm_") and not trainer.get("use_vllm"):
            yield ("trainer", name), f"trainer.{name} is refused: TRL ignores it unless use_vllm is true"
    if "use_bias_correction_kl" in trainer and not trainer.get("beta"):
        sentence = "TRL ignores it while beta is 0"
        yield ("trainer", "use_bias_correction_kl"), f"trainer.use_bias_correction_kl is refused: {sentence}"
    if "num_generations_eval" in trainer and trainer.get("eval_strategy", "no") == "no":
        sentence = "TRL ignores it unless eval_strategy is set"
        yield ("trainer", "num_generations_eval"), f"trainer.num_generations_eval is refused: {sentence}"


def _generation_mistakes(compute: Any, trainer: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
    if trainer.get("use_vllm") and importlib.util.find_spec("vllm") is None:
        yield ("trainer", "use_vllm"), "trainer.use_vllm needs a package that is not installed; run: pip install vllm"
    if trainer.get("use_transformers_continuous_batching") and compute == "bfloat16":
        name = "use_transformers_continuous_batching"
        sentence = "TRL 1.16 turns the weights in training into bfloat16 for it, too coarse to be trained"
        yield ("trainer", name), f"trainer.{name} is refused with compute: bfloat16: {sentence}; set compute: float32"
    if trainer.get("temperature", 1.0) == 0:
        sentence = "all completions of a group would be the same"
        yield ("trainer", "temperature"), f"trainer.temperature must be above 0: at 0 {sentence}"
    if trainer.get("remove_unused_columns"):
        sentence = "the rewards would get no columns"
        yield ("trainer", "remove_unused_columns"), f"trainer.remove_unused_columns is refused: {sentence}"
    if "max_completion_length" in trainer and trainer["max_completion_length"] is None:
        name = "max_completion_length"
        yield ("trainer", name), f"trainer.{name} must be a number of tokens, so that prompts can be checked to fit"


def _batch_mistakes(trainer: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
    """TRL would say the same, but only after it was imported; and without the arithmetic."""
    given = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "num_generations": 8, **trainer}
    counts = [given[n] for n in ("per_device_train_batch_size", "gradient_accumulation_steps", "num_generations")]
    steps, batch = given.get("steps_per_generation"), given.get("generation_batch_size")
    if not all(isinstance(one, int) and one > 0 for one in [*counts, *(n for n in (steps, batch) if n is not None)]):
        return  # a wrong type is reported elsewhere
    per_device, accumulation, group = counts
    if group < 2:
        yield ("trainer", "num_generations"), "trainer.num_generations must be 2 or more: a group compares completions"
    if steps is not None and batch is not None:
        sentence = "steps_per_generation and generation_batch_size say the same thing; keep one"
        yield ("trainer", "generation_batch_size"), f"trainer.{sentence}"
        return
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    at_once = per_device * processes
    if batch is not None and batch % at_once:
        sentence = f"must be a multiple of the {at_once} completions of a step ({per_device} × {processes} processes)"
        yield ("trainer", "generation_batch_size"), f"trainer.generation_batch_size {sentence}, but is {batch}"
    steps = steps or accumulation
    completions = batch or at_once * steps
    if completions % group:
        arithmetic = f"per_device_train_batch_size {per_device} × {processes} processes × steps_per_generation {steps}"
        sentence = f"{group} must divide the {completions} completions of a generation ({batch or arithmetic})"
        yield ("trainer", "num_generations"), f"trainer.num_generations: {sentence}, since a group must be whole"


def _shown(reward: float | None) -> str:
    return "no score" if reward is None else f"{reward:.2f}"


if __name__ == "__main__":
    raise SystemExit(GRPORecipe.main())

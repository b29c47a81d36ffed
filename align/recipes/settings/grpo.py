"""GRPO settings: rewards, and the arguments of the trainer that are refused before anything heavy is imported."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from pydantic import Field

from align.recipes.settings.common import PASS_THROUGH_LORA, RecipeSettings, owned_arguments
from align.settings.base import Location, did_you_mean
from align.settings.dotted import UseSettings
from align.settings.passthrough import GRPO_CONFIG, PassThrough

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

"""Greedy: what the model in training answers to held-out prompts without sampling, and what its rewards say of that.

A rising sampled reward can be sharpening alone; an answer that greedy decoding did not give before is learned.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import fmean
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from transformers import GenerationConfig, Trainer
from trl.chat_template_utils import parse_response
from trl.models.utils import unwrap_model_for_generation

from align.training.grpo.reward_functions import Scores, call
from align.training.loop.resume_state import own_random_state


def greedy_rewards(trainer: Trainer, rows: Any) -> dict[str, float | None]:
    """Mean reward of one greedy answer to each row, by reward name, and their weighted sum as `reward`.

    It works before, during and after training, on every rank at once (each answers its share), and leaves the random
    generators as they were. A mean is over the rows that have a score; None when no row has one.

    Args:
        trainer: a GRPO trainer; its rewards, weights, prompt rendering and `max_completion_length` are used.
        rows: a dataset with `prompt` and `columns`, as `trainer.eval_dataset`.
    """
    with trainer.accelerator.split_between_processes(list(range(len(rows))), apply_padding=True) as own:
        shares = [own] if isinstance(own, int) else list(own)
    with _random_state_kept():
        answered = _answers(trainer, [rows[index]["prompt"] for index in shares])
        scores = _scores(trainer, [rows[index] for index in shares], answered)
    by_row = dict(gather_object(list(zip(shares, scores, strict=True))))  # a padded share repeats rows
    names, weights = trainer.reward_func_names, trainer.reward_weights.tolist()
    sums = [
        sum(weight * score for weight, score in zip(weights, row, strict=True) if score is not None)
        for row in by_row.values()
        if any(score is not None for score in row)
    ]
    columns = zip(*(by_row[index] for index in sorted(by_row)), strict=True)
    means = {name: _mean([s for s in column if s is not None]) for name, column in zip(names, columns, strict=True)}
    return {"reward": _mean(sums), **means}


def _mean(values: list[float]) -> float | None:
    return fmean(values) if values else None


def _answers(trainer: Any, prompts: list[Any]) -> list[tuple[list[int], list[dict[str, Any]]]]:
    """(Token ids without what follows the end of sequence, completion as messages) for each prompt, in order."""
    tokenizer, args = trainer.processing_class, trainer.args
    settings = {
        "max_new_tokens": args.max_completion_length,
        "do_sample": False,
        "repetition_penalty": args.repetition_penalty,  # it shapes what is sampled, and the model's own may differ
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": trainer.eos_token_ids,
    }
    size = args.per_device_train_batch_size * args.steps_per_generation  # what sampling fits at once
    was_training = trainer.model.training
    trainer.model.eval()
    answers = []
    with (
        unwrap_model_for_generation(
            trainer.model_wrapped,
            trainer.accelerator,
            gather_deepspeed3_params=args.ds3_gather_for_generation,
            generation_kwargs=settings,
            gradient_checkpointing_kwargs=args.gradient_checkpointing_kwargs,
        ) as model,
        torch.no_grad(),
    ):
        for start in range(0, len(prompts), size):
            rendered = tokenizer.apply_chat_template(
                prompts[start : start + size],
                add_generation_prompt=True,
                return_dict=True,
                **(args.chat_template_kwargs or {}),
            )
            inputs = tokenizer.pad(rendered, padding_side="left", return_tensors="pt").to(trainer.accelerator.device)
            config = GenerationConfig(**settings, disable_compile=True)
            ids = model.generate(**inputs, generation_config=config)[:, inputs["input_ids"].size(1) :].tolist()
            answers += [_answer(tokenizer, _until_end(row, trainer.eos_token_ids)) for row in ids]
    trainer.model.train(was_training)
    return answers


def _until_end(ids: list[int], ends: list[int]) -> list[int]:
    """Up to the first end of sequence, that one included."""
    length = next((index + 1 for index, token in enumerate(ids) if token in ends), len(ids))
    return ids[:length]


def _answer(tokenizer: Any, ids: list[int]) -> tuple[list[int], list[dict[str, Any]]]:
    """As TRL reads a completion, so that a reward sees the same here."""
    if getattr(tokenizer, "response_template", None) or getattr(tokenizer, "response_schema", None):
        return ids, [parse_response(tokenizer, ids)]
    return ids, [{"role": "assistant", "content": tokenizer.decode(ids, skip_special_tokens=True)}]


def _scores(trainer: Any, rows: list[dict[str, Any]], answers: list[Any]) -> list[tuple[float | None, ...]]:
    """Of each row one score a reward."""
    arguments = {
        "prompts": [row["prompt"] for row in rows],
        "completions": [messages for _, messages in answers],
        "completion_ids": [ids for ids, _ in answers],
        "columns": [row["columns"] for row in rows],
        "trainer_state": trainer.state,
        "log_extra": _nowhere,
        "log_metric": _nowhere,
    }
    loop = getattr(trainer, "async_loop", None)
    by_reward: list[Scores] = [call(function, loop, **arguments) for function in trainer.reward_funcs]
    return list(zip(*by_reward, strict=True))


def _nowhere(name: str, value: Any) -> None:
    """Stands for TRL's loggers: what a reward logs here is not of a training step."""


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """Greedy decoding draws nothing, but a reward may."""
    python, numpy = random.getstate(), np.random.get_state()
    with own_random_state():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)

"""Preference arms: TRL's DPO trainer and ours on the same weights, rows and reference, for benchmarks to step through.

Rows are random token ids of given lengths, so that no tokenizer and no data set is needed. The policy differs from its
reference, so that a loss is not log 2 whatever was computed.
"""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate.utils import send_to_device
from datasets import Dataset
from transformers import LlamaConfig
from trl import DPOConfig, DPOTrainer

from align.training.loss.objective import objective
from align.training.step.choice import choose_forward
from align.training.step.cpu_head import score_completions_only
from align.training.step.reference_cache import ReferenceCache
from align.training.step.trainer import PreferencePath, PreferenceTrainer

_METRICS = ("log_probs", "entropy", "mean_logits", "is_top1")


@dataclass(frozen=True)
class Arm:
    """One way to train."""

    name: str
    is_ours: bool = False
    completions_only: bool = True
    """The LM head at completion tokens only: what TRL does on a GPU, and ours anywhere."""
    checkpointing: bool = False
    """Activations are computed again in the backward pass; TRL's default."""
    is_precomputed: bool = True
    """The reference's log-probs are known; else its forward is part of each step, TRL's default."""
    is_sorted: bool = False
    """Rows of about the same length share a micro-batch."""
    forward: Literal["auto", "tree", "padded"] = "auto"
    """Of ours, as a recipe has it."""


@dataclass(frozen=True)
class Shape:
    """Groups of a prompt and K completions, in micro-batches; a step accumulates all of them."""

    name: str
    lengths: tuple[tuple[int, tuple[int, ...]], ...]
    """Tokens of each group's (prompt, completions)."""
    groups_per_batch: int = 1

    def rows(self, vocabulary: int) -> list[dict[str, Any]]:
        """Groups as `preference_dataset` has them, with every pair of completions, the earlier one chosen."""
        draw = torch.Generator().manual_seed(0)
        rows = []
        for prompt, completions in self.lengths:
            ids = [torch.randint(0, vocabulary, (each,), generator=draw).tolist() for each in (prompt, *completions)]
            pairs = torch.triu_indices(len(completions), len(completions), offset=1).T.tolist()
            rows.append({"prompt_ids": ids[0], "completions_ids": ids[1:], "pairs": pairs})
        return rows

    @property
    def num_pairs(self) -> int:
        return sum(len(each) * (len(each) - 1) // 2 for _, each in self.lengths)


def smollm2_config(num_layers: int = 30) -> LlamaConfig:
    """SmolLM2-135M from its figures; nothing is downloaded."""
    return LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=num_layers,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        rope_theta=100000.0,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
    )


class StockTrainer(DPOTrainer):  # type: ignore[misc]  # TRL is untyped
    """TRL's own, told that its rows are token ids already."""

    def _prepare_dataset(self, dataset: Any, *arguments: Any) -> Any:
        return dataset


class Stepper:
    """A trainer of one arm with the rows of one shape."""

    def __init__(
        self,
        arm: Arm,
        shape: Shape,
        policy: Any,
        reference: Any,
        folder: Path,
        arguments: dict[str, Any],
        lora: Any = None,
    ) -> None:
        """
        Args:
            policy: a model; its weights are shared with it and its methods are not.
            reference: the same; None: the policy as it is now.
            folder: where a trainer may write.
            arguments: more for DPOConfig.
            lora: peft's settings; None: full fine-tuning.
        """
        self.arm = arm
        rows = shape.rows(policy.config.get_text_config().vocab_size)
        if not arm.is_ours:
            rows = [_pair(row, *sides) for row in rows for sides in row["pairs"]]
        size = shape.groups_per_batch if arm.is_ours else shape.groups_per_batch * shape.num_pairs // len(shape.lengths)
        if arm.is_sorted:
            rows.sort(key=_length)
        self.batches = [range(start, min(start + size, len(rows))) for start in range(0, len(rows), size)]
        given = dict(
            output_dir=str(folder / "run"),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=len(self.batches),
            gradient_checkpointing=arm.checkpointing,
            precompute_ref_log_probs=arm.is_precomputed,
            max_length=None,
            report_to=[],
            **arguments,
        )
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            self.trainer = self._build(
                DPOConfig(**given), Dataset.from_list(rows), policy, reference, shape, folder, lora
            )
        if arm.is_precomputed:
            self.trainer.ref_model = None
        if arm.checkpointing:  # as `train` does
            self.trainer.model.activation_checkpointing_enable(self.trainer.args.gradient_checkpointing_kwargs)
        self.trainer.current_gradient_accumulation_steps = len(self.batches)
        self.model = self.trainer.accelerator.prepare_model(self.trainer.model)
        self.trainer.model_wrapped = self.model

    def _build(
        self, given: DPOConfig, dataset: Dataset, policy: Any, reference: Any, shape: Shape, folder: Path, lora: Any
    ) -> DPOTrainer:
        more = {
            "model": _sharing_weights(policy),
            "ref_model": None if reference is None else _sharing_weights(reference),
            "args": given,
            "train_dataset": dataset,
            "processing_class": _tokenizer(),
            "peft_config": lora,
        }
        if self.arm.is_ours:
            choice = choose_forward(shape.lengths, policy.config, self.arm.forward, shape.groups_per_batch)
            compute = "bfloat16" if given.bf16 else "float32"
            cache = ReferenceCache({"benchmark": shape.name}, folder / "reference")
            return PreferenceTrainer(PreferencePath(objective({}), choice.forward, compute, cache=cache), **more)
        trainer = StockTrainer(**more)
        if self.arm.completions_only and trainer.accelerator.device.type == "cpu":
            assert score_completions_only(trainer.model, _METRICS)
            assert trainer.ref_model is None or score_completions_only(trainer.ref_model, ("log_probs",))
        return trainer

    @property
    def forward(self) -> str:
        """`tree` or `padded`."""
        return self.trainer.path.forward if self.arm.is_ours else "padded"

    def collated(self) -> Iterator[dict[str, Any]]:
        """Batches on the device, as the trainer's data loader hands them out."""
        for batch in self.batches:
            made = self.trainer.data_collator([self.trainer.train_dataset[index] for index in batch])
            yield send_to_device(made, self.trainer.accelerator.device)

    def reference_pass(self) -> None:
        """What log-probs of a reference cost, here of the policy as it stands."""
        for batch in self.collated():
            inputs = self.trainer._prepare_inputs(batch)
            if self.arm.is_ours:
                for pack in inputs["packs"]:
                    self.trainer.models.reference_logps(pack)
            else:
                self.trainer.compute_ref_log_probs(self.model, inputs)

    def step(self) -> float:
        """Collate, forward and backward of all micro-batches; returns the loss over all pairs."""
        trainer, device = self.trainer, self.trainer.accelerator.device
        samples, num_items = trainer.get_batch_samples(self.collated(), len(self.batches), device)
        losses = [trainer.training_step(self.model, batch, num_items) for batch in samples]
        return float(torch.stack(losses).sum())

    def clear(self) -> None:
        """Let the gradients go."""
        self.trainer.model.zero_grad(set_to_none=True)

    def gradient_norm(self) -> float:
        gradients = [each.grad for each in self.trainer.model.parameters() if each.grad is not None]
        return float(torch.nn.utils.get_total_norm(gradients))

    def scored_positions(self) -> int:
        """Where the LM head is to be computed in a step: at completion tokens, or at all but each row's last."""
        rows = [self.trainer.train_dataset[index] for batch in self.batches for index in batch]
        if self.arm.is_ours:
            return sum(len(ids) for row in rows for ids in row["completions_ids"])
        if self.arm.completions_only:
            return sum(len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in rows)
        return sum(2 * len(batch) * (max(_length(rows[index]) for index in batch) - 1) for batch in self.batches)


def random_model(config: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """Random weights at a fixed seed; nothing is downloaded."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    with device:
        return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")


def move(model: Any) -> None:
    """A little noise on all weights that are trained, the same each time, as training would move them."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(1e-4 * torch.randn_like(weight))


def _sharing_weights(model: Any) -> Any:
    """A copy with the same weights; each trainer alters methods of its model."""
    return copy.deepcopy(model, {id(each): each for each in model.parameters()})


def _tokenizer() -> Any:
    """Trainers ask for one, to pad with it."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({"<pad>": 0, "<eos>": 1, "<unk>": 2}, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def _pair(row: dict[str, Any], chosen: int, rejected: int) -> dict[str, Any]:
    sides = row["completions_ids"]
    return {"prompt_ids": row["prompt_ids"], "chosen_ids": sides[chosen], "rejected_ids": sides[rejected]}


def _length(row: dict[str, Any]) -> int:
    """Tokens of the longest row that TRL would make."""
    sides: Sequence[Any] = row.get("completions_ids") or [row["chosen_ids"], row["rejected_ids"]]
    return len(row["prompt_ids"]) + max(map(len, sides))

"""Forward choice: whether a run encodes each prompt once (the tree) or pads plain rows, and why.

The tree spares what prompts cost again and again. Where completions dwarf prompts that is next to nothing, and smaller
matrix products and more calls eat it up. On CUDA the tree runs by itself only where `align verify` has proved it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from align.errors import ConfigError
from align.models.facts import attention_shape
from align.training.step.verified import SHIPPED, Machine, verified
from align.tree.support import supports

Forward = Literal["tree", "padded"]
LEAST_GAIN = 1.05
"""How many times the tree's operations padded rows must take for the tree to be chosen.

Measured on a CPU: where 1.08 is estimated, padded rows took 1.07 to 1.15 times the tree's time; at 1.04, as long.
"""


@dataclass(frozen=True)
class Choice:
    """The forward that a run takes; its text is the line to print."""

    forward: Forward
    reason: str
    gain: float | None = None
    """Operations of padded rows over those of the tree; None where nothing was estimated."""

    def __str__(self) -> str:
        return f"forward: {self.forward} ({self.reason})"


def choose_forward(
    lengths: Sequence[tuple[int, Sequence[int]]],
    config: Any,
    setting: Literal["auto", "tree", "padded"] = "auto",
    groups_per_batch: int = 1,
    *,
    machine: Machine | None = None,
    compute: str = "bfloat16",
    model: str = "MODEL",
    records: Path | None = None,
    shipped: Path = SHIPPED,
) -> Choice:
    """Decide from the model, the lengths of the rows to train on, and on CUDA from what `align verify` has recorded.

    Args:
        lengths: tokens of each group's (prompt, completions).
        config: the model's, of transformers.
        setting: what the user asked for.
        groups_per_batch: groups that padded rows would be cut into batches of, in the order given; each row costs as
            much as the longest of its batch.
        machine: that the run computes on; None: the GPU if there is one, else the CPU.
        compute: arithmetic of the run, `float32` or `bfloat16`.
        model: its name, for the command that a reason may advise.
        records: folder of the records of `align verify`; None: in the user's cache.
        shipped: folder of the records that come with the package.

    Raises:
        ConfigError: `tree` was asked for and does not fit the model.
    """
    if setting == "padded":
        return Choice("padded", "as set")
    unfit = supports(config)
    if setting == "tree":
        if unfit is not None:
            raise ConfigError(f"forward: must be padded or auto for this model, but is tree: {unfit}.")
        return Choice("tree", "as set")
    if unfit is not None:
        return Choice("padded", unfit)
    gain = padded_operations(lengths, config, groups_per_batch) / tree_operations(lengths, config)
    prompts = sum(prompt for prompt, _ in lengths)
    completions = sum(sum(each) for _, each in lengths)
    size = f"{prompts:,} prompt and {completions:,} completion tokens: padded rows would take {gain:.2f} times"
    if gain < LEAST_GAIN:
        return Choice("padded", f"{size} the tree's operations, and below {LEAST_GAIN} nothing is gained", gain)
    machine = machine or Machine.of()
    unproven = verified(config, machine, compute, model, records, shipped) if machine.kind == "cuda" else None
    if unproven is not None:
        return Choice("padded", unproven, gain)
    return Choice("tree", f"{size} the operations", gain)


def tree_operations(lengths: Sequence[tuple[int, Sequence[int]]], config: Any) -> float:
    """Floating-point operations of a forward and backward pass that encodes each prompt once."""
    tokens = pairs = scored = 0.0
    for prompt, completions in lengths:
        tokens += prompt + sum(completions)
        pairs += _causal(prompt) + sum(each * prompt + _causal(each) for each in completions)
        scored += sum(completions)
    return _operations(config, tokens, pairs, scored)


def padded_operations(lengths: Sequence[tuple[int, Sequence[int]]], config: Any, groups_per_batch: int = 1) -> float:
    """The same for a row of each completion and its prompt, padded to the longest of its batch."""
    tokens = pairs = scored = 0.0
    for start in range(0, len(lengths), groups_per_batch):
        batch = lengths[start : start + groups_per_batch]
        rows = [prompt + each for prompt, completions in batch for each in completions]
        tokens += len(rows) * max(rows)
        pairs += len(rows) * _causal(max(rows))
        scored += sum(sum(completions) for _, completions in batch)
    return _operations(config, tokens, pairs, scored)


def _operations(config: Any, tokens: float, pairs: float, scored: float) -> float:
    """Operations, two for each multiply-add; backward takes twice the forward, and once more for what is recomputed.

    Args:
        pairs: of a query and a key that it sees.
        scored: positions that reach the LM head, whose logits are computed again in the backward pass.
    """
    text, shape = config.get_text_config(), attention_shape(config)
    projections = 2 * (shape.heads + shape.key_heads) * shape.head_size
    width = text.intermediate_size
    if getattr(text, "num_experts_per_tok", None):
        width = text.num_experts_per_tok * text.moe_intermediate_size
    weights = text.num_hidden_layers * text.hidden_size * (projections + 3 * width)
    attention = text.num_hidden_layers * 2 * shape.heads * shape.head_size
    head = text.hidden_size * text.vocab_size
    return float(2 * (3 * weights * tokens + 3.5 * attention * pairs + 4 * head * scored))


def _causal(length: int) -> float:
    return length * (length + 1) / 2

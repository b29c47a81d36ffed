"""Stock DPO: TRL's own loss and metrics, run on log-probs that a test made up instead of a model's.

`DPOTrainer._compute_loss` gets a trainer that holds settings only and a model that returns the given numbers, so the
formulas are TRL's to the letter and nothing is loaded.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from trl import DPOTrainer

DEFAULTS = {
    "beta": 0.1,
    "loss_types": ["sigmoid"],
    "ld_alpha": None,
    "label_smoothing": 0.0,
    "use_weighting": False,
    "discopop_tau": 0.05,
}
NUM_PROMPT_TOKENS = 3


@dataclass
class Tokens:
    """Made-up fields of B pairs: chosen rows first, then rejected ones; shape [2 B, T], completion tokens only."""

    mask: torch.Tensor
    log_probs: torch.Tensor
    ref_log_probs: torch.Tensor
    entropy: torch.Tensor = field(init=False)
    mean_logits: torch.Tensor = field(init=False)
    log_sum_sq_probs: torch.Tensor = field(init=False)
    is_top1: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        shape, dtype = self.mask.shape, self.log_probs.dtype
        self.entropy = torch.rand(shape, generator=generator, dtype=dtype) * self.mask
        self.mean_logits = torch.randn(shape, generator=generator, dtype=dtype) * self.mask
        self.log_sum_sq_probs = -torch.rand(shape, generator=generator, dtype=dtype) * self.mask
        self.is_top1 = torch.rand(shape, generator=generator) < 0.5


def random_tokens(lengths: list[int], seed: int = 0, dtype: torch.dtype = torch.float64) -> Tokens:
    """Lengths of the chosen completions, then of the rejected ones."""
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]).long()
    policy, reference = (-2.0 * torch.rand(mask.shape, generator=generator, dtype=dtype) * mask for _ in range(2))
    return Tokens(mask, policy.requires_grad_(), reference)


def stock_loss(tokens: Tokens, **options: Any) -> tuple[torch.Tensor, dict[str, float]]:
    """TRL's loss, a scalar with gradient to `tokens.log_probs`, and the metrics that it would log."""
    trainer = _trainer({**DEFAULTS, **options})
    prompt = torch.zeros(len(tokens.mask), NUM_PROMPT_TOKENS, dtype=torch.long)
    mask = torch.cat([prompt, tokens.mask], dim=1)
    inputs = {
        "input_ids": torch.zeros_like(mask),
        "completion_mask": mask,
        "attention_mask": torch.cat([prompt + 1, tokens.mask], dim=1),
    }
    trainer.ref_model = lambda **_: SimpleNamespace(log_probs=_shifted(tokens.ref_log_probs))
    loss = DPOTrainer._compute_loss(trainer, lambda **_: _outputs(tokens), inputs, False)
    return loss, {name: values[-1] for name, values in trainer._metrics["train"].items()}


def stock_losses(tokens: Tokens, **options: Any) -> list[float]:
    """TRL's loss of each pair by itself; not for losses that sort the batch."""
    num_pairs = len(tokens.mask) // 2
    pairs = [_one_pair(tokens, index, num_pairs) for index in range(num_pairs)]
    return [stock_loss(pair, **options)[0].item() for pair in pairs]


def _one_pair(tokens: Tokens, index: int, num_pairs: int) -> Tokens:
    rows = [index, num_pairs + index]
    return Tokens(tokens.mask[rows], tokens.log_probs[rows], tokens.ref_log_probs[rows])


def _outputs(tokens: Tokens) -> SimpleNamespace:
    names = ("log_probs", "entropy", "mean_logits", "log_sum_sq_probs", "is_top1")
    return SimpleNamespace(**{name: _shifted(getattr(tokens, name)) for name in names})


def _shifted(field_2B_T: torch.Tensor) -> torch.Tensor:
    """With the prompt's positions but the first, as a forward returns it."""
    return torch.nn.functional.pad(field_2B_T, (NUM_PROMPT_TOKENS - 1, 0))


class _Weightless(torch.nn.Module):
    """What the trainer asks about its model before it scores the reference."""

    is_gradient_checkpointing = False


def _trainer(options: dict[str, Any]) -> Any:
    options.setdefault("loss_weights", [1.0] * len(options["loss_types"]))
    accelerator = SimpleNamespace(device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x)
    return SimpleNamespace(
        **options,
        model=_Weightless(),
        args=SimpleNamespace(gradient_checkpointing_kwargs=None, discopop_tau=options["discopop_tau"]),
        accelerator=accelerator,
        aux_loss_enabled=False,
        precompute_ref_logps=False,
        f_divergence_type="reverse_kl",
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        _tp_size=1,
    )

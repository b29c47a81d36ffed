"""CPU head: on a CPU, run the LM head at completion positions only, as TRL does on devices with Triton.

TRL 1.16 scores every position elsewhere (`compact` in trl/trainer/utils.py), to spare Neuron a recompilation. With a
vocabulary of 49,152 and short answers that is more than half of a DPO step. The numbers are the same.
"""

from __future__ import annotations

import functools
import types
from typing import Any

import torch
from trl.trainer.utils import FusedCausalLMOutput

from align.models.facts import unwrapped
from align.tree.head import score_positions
from align.tree.support import ALTERED_LOGITS


def score_completions_only(model: Any, outputs: tuple[str, ...], temperature: float = 1.0) -> bool:
    """Wrap `forward` of one model that a TRL trainer has given a fused LM head.

    Args:
        model: a causal language model, or a peft model or a DeepSpeed engine around one.
        outputs: the per-token fields that its trainer asks for, as TRL names them.
        temperature: what logits are divided by; GRPO scores at the one it samples with.

    Returns:
        Whether the model was wrapped: on a CPU, and plain logits.
    """
    model = unwrapped(model)
    config = model.config.get_text_config()
    if model.device.type != "cpu" or any(getattr(config, name, None) is not None for name in ALTERED_LOGITS):
        return False
    if getattr(config, "output_router_logits", None) is not None:
        return False
    trl_forward = model.forward

    @functools.wraps(type(model).forward)
    def forward(
        self: Any,
        *args: Any,
        fused_lm_head: bool = False,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Any,
    ) -> Any:
        if not fused_lm_head or labels is None:
            extra = {"labels": labels, "num_items_in_batch": num_items_in_batch}
            kwargs.update({name: value for name, value in extra.items() if value is not None})
            return trl_forward(*args, fused_lm_head=fused_lm_head, **kwargs)
        hidden = self.base_model(*args, **{**kwargs, "use_cache": False}).last_hidden_state[:, :-1]
        return _score(hidden, labels[:, 1:], self.get_output_embeddings(), outputs, temperature, num_items_in_batch)

    model.forward = types.MethodType(forward, model)
    return True


def spare_head_copies(model: Any) -> None:
    """On a CPU, hand a frozen LM head (LoRA) its input in one piece while sampling begins.

    transformers 5.23 slices the prompt's last position out; torch 2.13 takes `[B, 1, H]` with such strides for B matrix
    products where the head needs no gradient, and copies the whole head for each. With SmolLM2, 48 prompts of 26 tokens
    and 8 new ones that is 9.0 s of a core instead of 3.3 (ran), and 2.7 GB; the tokens are the same.
    """
    if model.device.type == "cpu":
        model.get_output_embeddings().register_forward_pre_hook(lambda head, inputs: (inputs[0].contiguous(),))


def _score(
    hidden_B_T_H: torch.Tensor,
    targets_B_T: torch.Tensor,
    head: Any,
    outputs: tuple[str, ...],
    temperature: float,
    num_items_in_batch: torch.Tensor | int | None,
) -> FusedCausalLMOutput:
    """Fields of shape [B, T], zero where the target is -100."""
    mask_B_T = targets_B_T != -100
    scored = score_positions(hidden_B_T_H[mask_B_T], targets_B_T[mask_B_T], head, outputs, temperature)
    fields = {name: field.new_zeros(mask_B_T.shape).masked_scatter(mask_B_T, field) for name, field in scored.items()}
    num_items = mask_B_T.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
    return FusedCausalLMOutput(loss=-fields["log_probs"].sum() / num_items, label_mask=mask_B_T, **fields)

"""Head: the LM head and what a loss needs of it, at the positions that are scored and at no others."""

from __future__ import annotations

from typing import Any

import torch
from trl.kernels import ChunkedLogProbFunction
from trl.trainer.utils import maybe_gather_lm_head_ctx

_VOCABULARY_CHUNK = 32_768
_FIELDS = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")
"""What TRL's kernel returns, in its order."""


def score_positions(
    hidden_M_H: torch.Tensor,
    targets_M: torch.Tensor,
    head: Any,
    outputs: tuple[str, ...] = ("log_probs",),
    temperature: float = 1.0,
    vocabulary_chunk: int | None = _VOCABULARY_CHUNK,
) -> dict[str, torch.Tensor]:
    """Run the LM head at M positions. Call it inside the model's forward, where ZeRO-3 gathers weights.

    Args:
        outputs: the fields wanted beside `log_probs`, as TRL names them.
        vocabulary_chunk: columns of the logits that exist at once; None keeps all [M, V] of them for the backward pass,
            which spares a fourth of the head's products. float64 is never chunked: TRL's kernel sums in float32.

    Returns:
        Fields of shape [M] by name.
    """
    if vocabulary_chunk is None or hidden_M_H.dtype == torch.float64:
        return _fields_of_logits(head(hidden_M_H) / temperature, targets_M, outputs)
    with maybe_gather_lm_head_ctx(head.weight, head.bias):
        fields = ChunkedLogProbFunction.apply(
            hidden_M_H,
            head.weight,
            head.bias,
            targets_M,
            temperature,
            vocabulary_chunk,
            None,  # soft cap
            1.0,  # scale of the logits
            outputs,
        )
    return {name: field for name, field in zip(_FIELDS, fields, strict=True) if field is not None}


def _fields_of_logits(logits_M_V: torch.Tensor, targets_M: torch.Tensor, outputs: tuple[str, ...]) -> dict[str, Any]:
    logps_M_V = (logits_M_V if logits_M_V.dtype == torch.float64 else logits_M_V.float()).log_softmax(-1)
    fields = {"log_probs": logps_M_V.gather(-1, targets_M[:, None])[:, 0]}
    if "entropy" in outputs:
        fields["entropy"] = -(logps_M_V.exp() * logps_M_V).sum(-1)
    with torch.no_grad():
        if "log_sum_sq_probs" in outputs:
            fields["log_sum_sq_probs"] = (2 * logps_M_V).logsumexp(-1)
        if "mean_logits" in outputs:
            fields["mean_logits"] = logits_M_V.to(logps_M_V.dtype).mean(-1)
        if "is_top1" in outputs:
            fields["is_top1"] = logits_M_V.argmax(-1) == targets_M
    return fields

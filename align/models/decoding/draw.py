"""Draw: the next token of each row from its logits and one uniform number of its own.

The inverse of the cumulated probabilities, likeliest token first: equal numbers draw equal tokens wherever the row
stands, and two models that are alike mostly draw alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

NUM_LIKELIEST = 256
"""Tokens that are sorted first. Only a draw that falls outside them sorts the whole vocabulary, which takes ten times
as long."""


def draw_tokens(
    logits_B_V: Tensor, temperature: Sequence[float], top_p: Sequence[float], uniforms: Sequence[float]
) -> list[int]:
    """One token id for each row.

    `temperature` 0 takes the likeliest token; `top_p` keeps the likeliest tokens up to that share of the probability
    (arXiv 1904.09751), the one that crosses it included; `uniforms` lie in [0, 1).
    """
    tokens: list[int] = logits_B_V.argmax(-1).tolist()
    sampled = [row for row, value in enumerate(temperature) if value > 0]
    if not sampled:
        return tokens
    probs_B_V = _soften(logits_B_V[sampled], [temperature[row] for row in sampled])
    for num_sorted in (min(NUM_LIKELIEST, probs_B_V.shape[1]), probs_B_V.shape[1]):
        drawn = _draw(probs_B_V, num_sorted, [top_p[row] for row in sampled], [uniforms[row] for row in sampled])
        for row, token in zip(sampled, drawn, strict=True):
            tokens[row] = tokens[row] if token is None else token
        open_rows = [index for index, token in enumerate(drawn) if token is None]
        if not open_rows:
            break
        sampled, probs_B_V = [sampled[index] for index in open_rows], probs_B_V[open_rows]
    return tokens


def _soften(logits_B_V: Tensor, temperature: list[float]) -> Tensor:
    import torch

    scale_B = torch.tensor(temperature, device=logits_B_V.device, dtype=torch.float32)
    return (logits_B_V.float() / scale_B[:, None]).softmax(-1)


def _draw(probs_B_V: Tensor, num_sorted: int, top_p: list[float], uniforms: list[float]) -> list[int | None]:
    """Draw among the `num_sorted` likeliest tokens; None where the draw falls among the others."""
    import torch

    top_p_B = torch.tensor(top_p, dtype=torch.float64, device=probs_B_V.device)
    uniforms_B = torch.tensor(uniforms, dtype=torch.float64, device=probs_B_V.device)
    likeliest_B_K, ids_B_K = probs_B_V.topk(num_sorted)
    mass_B_K = likeliest_B_K.double().cumsum(-1)
    num_kept_B = 1 + (mass_B_K[:, :-1] < top_p_B[:, None]).sum(-1)
    kept_mass_B = mass_B_K.gather(1, num_kept_B[:, None] - 1)[:, 0]
    # Where the sorted tokens do not reach top_p, the mass that will be kept is known only for top_p = 1.
    is_whole_B = kept_mass_B >= top_p_B
    total_B = torch.where(is_whole_B, kept_mass_B, torch.ones_like(kept_mass_B))
    rank_B = (mass_B_K <= (uniforms_B * total_B)[:, None]).sum(-1)
    if num_sorted == probs_B_V.shape[1]:
        is_drawn_B = torch.ones_like(is_whole_B)
    else:
        is_drawn_B = (is_whole_B | (top_p_B >= 1)) & (rank_B < num_sorted)
    drawn_B = ids_B_K.gather(1, torch.minimum(rank_B, num_kept_B - 1)[:, None])[:, 0]
    return [token if is_drawn else None for token, is_drawn in zip(drawn_B.tolist(), is_drawn_B.tolist(), strict=True)]

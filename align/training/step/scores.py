"""Scores: a model's numbers for each completion token of a pack, and what a loss needs to know of its pairs."""

from __future__ import annotations

from typing import Any

import torch

from align.errors import DataError
from align.training.loss.objective import Objective
from align.training.loss.pairs import PairLogps, PairTails, length_desensitized
from align.training.loss.score_margins import score_margins
from align.training.loss.terms import LossTerm, PairExtras, loss_terms
from align.training.loss.wpo import aligned_logps, wpo_weights
from align.training.step.metrics import TokenSums
from align.training.step.packs import Pack, PaddedRows
from align.training.step.tree_forward import tree_forward

_METRIC_FIELDS = ("log_probs", "entropy", "mean_logits", "is_top1")
"""Fields that the logged metrics need, as TRL names them."""


def policy_outputs(use_weighting: bool) -> tuple[str, ...]:
    """Fields that are asked of the policy, as TRL names them."""
    return (*_METRIC_FIELDS, "log_sum_sq_probs") if use_weighting else _METRIC_FIELDS


def score_pack(model: Any, pack: Pack, outputs: tuple[str, ...] = ("log_probs",)) -> dict[str, torch.Tensor]:
    """Fields of shape [M], one value for each completion token in the pack's order.

    Args:
        model: one prepared by `PreferenceModels`, or a wrapper of it.
        outputs: names of the fields, as TRL has them.
    """
    if not isinstance(pack.layout, PaddedRows):
        output = tree_forward(model, pack.layout, outputs=outputs)
        return {name: getattr(output, name) for name in outputs}
    rows = pack.layout
    output = model(
        input_ids=rows.input_ids_C_T,
        attention_mask=rows.attention_mask_C_T,
        labels=rows.input_ids_C_T.masked_fill(~rows.is_completion_C_T, -100),
        use_cache=False,
        fused_lm_head=True,
    )
    is_scored_C_T = rows.is_completion_C_T[:, 1:]
    width = is_scored_C_T.size(1)  # adapters that learn tokens put theirs before the row
    return {name: getattr(output, name)[:, -width:][is_scored_C_T] for name in outputs}


def pair_terms(
    pack: Pack, fields: dict[str, torch.Tensor], ref_logps_M: torch.Tensor | None, objective: Objective
) -> tuple[PairLogps, list[LossTerm]]:
    """The pairs as they are compared (after `ld_alpha`), and every loss on them.

    Args:
        fields: of `score_pack` under the policy.
        ref_logps_M: under the reference; None where the losses have none.

    Raises:
        DataError: an option needs something that the rows do not have.
    """
    logps_M = fields["log_probs"] if fields["log_probs"].dtype == torch.float64 else fields["log_probs"].float()
    pairs = pair_logps(pack, logps_M, ref_logps_M)
    tails = None if objective.ld_alpha is None else pair_tails(pack, logps_M, ref_logps_M)
    extras = PairExtras(
        tails=tails,
        weights_B=pair_weights(pack, fields, objective) if objective.use_weighting else None,
        margins_B=pair_margins(pack, objective, logps_M.dtype) if objective.margin_scale is not None else None,
    )
    terms = loss_terms(pairs, objective, extras)
    if tails is not None and objective.ld_alpha is not None:
        pairs = length_desensitized(pairs, tails, objective.ld_alpha, objective.ld_alpha_on)
    return pairs, terms


def pair_logps(pack: Pack, logps_M: torch.Tensor, ref_logps_M: torch.Tensor | None) -> PairLogps:
    """The pack's pairs, under the policy and, unless None, the reference."""
    logps_C = pack.layout.sums(logps_M)
    ref_C = None if ref_logps_M is None else pack.layout.sums(ref_logps_M.to(logps_M.dtype))
    return PairLogps(
        chosen_logps_B=logps_C[pack.better_P],
        rejected_logps_B=logps_C[pack.worse_P],
        num_chosen_tokens_B=pack.num_tokens_C[pack.better_P],
        num_rejected_tokens_B=pack.num_tokens_C[pack.worse_P],
        ref_chosen_logps_B=None if ref_C is None else ref_C[pack.better_P],
        ref_rejected_logps_B=None if ref_C is None else ref_C[pack.worse_P],
    )


def pair_tails(pack: Pack, logps_M: torch.Tensor, ref_logps_M: torch.Tensor | None) -> PairTails:
    """Sums beyond the shorter completion of each pair."""
    policy = _tails(pack, logps_M)
    reference = (None, None) if ref_logps_M is None else _tails(pack, ref_logps_M.to(logps_M.dtype))
    return PairTails(
        chosen_logps_B=policy[0],
        rejected_logps_B=policy[1],
        ref_chosen_logps_B=reference[0],
        ref_rejected_logps_B=reference[1],
    )


def pair_weights(pack: Pack, fields: dict[str, torch.Tensor], objective: Objective) -> torch.Tensor:
    """WPO's weight of each pair, without gradient."""
    sums_C = pack.layout.sums(aligned_logps(fields["log_probs"], fields["log_sum_sq_probs"]))
    means_C = sums_C / pack.num_tokens_C
    return wpo_weights(means_C[pack.better_P], means_C[pack.worse_P], objective.wpo_clamp)


def pair_margins(pack: Pack, objective: Objective, dtype: torch.dtype) -> torch.Tensor:
    """Margin of each pair from the scores of its sides.

    Raises:
        DataError: the rows have no scores.
    """
    if pack.scores_C is None:
        raise DataError(
            "loss.margin: each row must have a score for both sides (meta.chosen.score and meta.rejected.score, or a "
            "group's candidates), but some have none; leave loss.margin out, or build the pairs with scores"
        )
    assert objective.margin_scale is not None and objective.margin_of is not None
    chosen_P, rejected_P = pack.scores_C[pack.better_P], pack.scores_C[pack.worse_P]
    return score_margins(chosen_P, rejected_P, objective.margin_scale, objective.margin_of).to(dtype)


def side_sums(pack: Pack, fields: dict[str, torch.Tensor]) -> tuple[TokenSums, TokenSums]:
    """Sums over the tokens of chosen and of rejected, for the logged metrics."""
    summed = {
        name: pack.layout.sums(fields[name].detach().to(torch.float64))
        for name in ("entropy", "mean_logits", "is_top1")
    }
    chosen, rejected = (
        TokenSums(
            num_tokens_B=pack.num_tokens_C[side_P],
            entropy_B=summed["entropy"][side_P],
            mean_logits_B=summed["mean_logits"][side_P],
            num_top1_B=summed["is_top1"][side_P],
        )
        for side_P in (pack.better_P, pack.worse_P)
    )
    return chosen, rejected


def _tails(pack: Pack, values_M: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For each pair: of its chosen and its rejected side, the sum over the tokens past the other's length."""
    before_M1 = torch.cat([values_M.new_zeros(1, dtype=torch.float64), values_M.double().cumsum(0)])
    ends_C = pack.num_tokens_C.cumsum(0)
    starts_C = ends_C - pack.num_tokens_C
    shared_P = torch.minimum(pack.num_tokens_C[pack.better_P], pack.num_tokens_C[pack.worse_P])
    chosen_P, rejected_P = (
        (before_M1[ends_C[side_P]] - before_M1[starts_C[side_P] + shared_P]).to(values_M.dtype)
        for side_P in (pack.better_P, pack.worse_P)
    )
    return chosen_P, rejected_P

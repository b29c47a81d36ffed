"""Registry: who honours each argument of TRL's `DPOConfig` and each of its losses, ours or TRL's path, or nobody.

Every argument that TRL adds to transformers' stands in exactly one of OURS, TRL_PATH and REFUSED, every `loss_type` in
one of OUR_LOSSES and TRL_LOSSES; a test reads the installed source and fails when TRL has one that is in none. *Our
path* is this package's own step, *TRL's path* is stock TRL, which runs whenever an argument or a loss asks for it.
Loads nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from align.errors import ConfigError

IpoReduction: TypeAlias = Literal["mean", "sum"]
LdAlphaOn: TypeAlias = Literal["both", "policy"]
WpoClamp: TypeAlias = Literal["none", "one"]
MarginOf: TypeAlias = Literal["difference", "log_difference"]

OURS = {
    "beta": "read by every loss",
    "disable_dropout": "TRL's constructor does it for both paths",
    "label_smoothing": "sigmoid (where TRL ignores it), sigmoid_norm, robust, simpo, cpo",
    "ld_alpha": "loss.ld_alpha_on says whether on the reference too",
    "loss_type": "each value in OUR_LOSSES",
    "loss_weights": "as TRL: not normalised",
    "max_length": "rows that do not fit are refused or dropped, never cut",
    "precompute_ref_batch_size": "prompts whose completions are scored in one forward",
    "precompute_ref_log_probs": "reference log-probs are kept for each completion, for later runs too",
    "use_weighting": "WPO; loss.wpo_clamp says whether weights may exceed 1",
}
"""Argument → how our path honours it."""

TRL_PATH: dict[str, tuple[tuple[Any, ...], str]] = {
    "activation_offloading": ((False,), "it moves saved tensors of TRL's own forward"),
    "dataset_num_proc": ((None, 1), "our path tokenises in one process"),
    "discopop_tau": ((0.05,), "only discopop reads it"),
    "f_alpha_divergence_coef": ((0.5,), "only f_divergence_type: alpha_divergence reads it"),
    "f_divergence_type": (("reverse_kl",), "our losses are written for the reverse KL"),
    "pad_to_multiple_of": ((None, "auto"), "our path does not pad"),
    "ref_model_mixup_alpha": ((0.6,), "the reference moves during training"),
    "ref_model_sync_steps": ((512,), "the reference moves during training"),
    "router_aux_loss_coef": (
        (None, 0, 0.0),
        "the loss that balances experts comes from TRL's forward",
    ),
    "sync_ref_model": ((False,), "the reference moves during training"),
}
"""Argument → (the values that ask for nothing, why any other value needs TRL's path)."""

REFUSED = {
    "model_init_kwargs": "the model is loaded from model: and compute: at the top level",
    "pad_token": "TRL removes it in 2.0; set the pad token in the model folder's tokenizer",
    "padding_free": "TRL accepts it and does not do it",
    "truncation_mode": "rows that are too long are refused or dropped (data: {on_bad_rows: drop}), never cut",
    "trust_remote_code": "model and tokenizer are loaded before TRL sees them, so TRL would ignore it",
}
"""Argument → why it is refused, and what to do instead."""

OUR_LOSSES = frozenset({"apo_down", "apo_zero", "hinge", "ipo", "robust", "sft", "sigmoid", "sigmoid_norm"})
"""TRL's losses that our path computes."""

TRL_LOSSES = {
    "aot": "sorts the batch, so it cannot be computed pair by pair",
    "aot_unpaired": "sorts the batch, so it cannot be computed pair by pair",
    "bco_pair": "libraries disagree on its delta; TRL has none",
    "discopop": "runs as TRL has it",
    "exo_pair": "runs as TRL has it",
    "nca_pair": "runs as TRL has it",
    "sppo_hard": "runs as TRL has it",
}
"""TRL's losses that only its path computes → why."""

LOSSES_TRL_LACKS = frozenset({"cpo", "orpo", "simpo"})
"""Losses that `DPOConfig` does not know; they are named in `loss.type`."""

SORTING_LOSSES = frozenset({"aot", "aot_unpaired"})
"""Their value depends on which pairs share a micro-batch."""

LABEL_SMOOTHING_OURS = frozenset({"cpo", "robust", "sigmoid", "sigmoid_norm", "simpo"})
"""Losses that read `label_smoothing` on our path."""

LABEL_SMOOTHING_TRL = frozenset({"aot", "aot_unpaired", "exo_pair", "robust"})
"""Losses that read `label_smoothing` on TRL's path (read in 1.16)."""

WEIGHTING_FAILS_IN_TRL = frozenset({"hinge", "sft"})
"""Losses that TRL cannot weight: it multiplies in place what autograd or the other rows still need (ran 1.16)."""


def loss_types(trainer: Mapping[str, Any], ours: Sequence[str] | str | None = None) -> list[str]:
    """Names of the losses that are summed: `loss.type` if given, else `trainer.loss_type`, else sigmoid."""
    named = ours if ours is not None else trainer.get("loss_type", "sigmoid")
    return [named] if isinstance(named, str) else list(named)


def needs_trl_path(trainer: Mapping[str, Any]) -> list[str]:
    """Why stock TRL must run, one sentence for each argument or loss that asks for it; none when our path may run."""
    found = [
        f"trainer.loss_type: {name}: {TRL_LOSSES[name]}" for name in loss_types(trainer) if str(name) in TRL_LOSSES
    ]
    for name, value in trainer.items():
        neutral, reason = TRL_PATH.get(name, ((value,), ""))
        if value not in neutral:
            found.append(f"trainer.{name}: {value}: {reason}")
    return found


def needs_our_path(trainer: Mapping[str, Any], loss: Mapping[str, Any]) -> list[str]:
    """Why our path must run, one sentence for each setting that stock TRL would not honour."""
    names = set(loss_types(trainer, loss.get("type")))
    found = [f"loss.type: {name}: DPOConfig does not know it" for name in sorted(names & LOSSES_TRL_LACKS)]
    smoothed = names & (LABEL_SMOOTHING_OURS - LABEL_SMOOTHING_TRL)
    if trainer.get("label_smoothing") and smoothed:
        found.append(f"trainer.label_smoothing: TRL ignores it with {', '.join(sorted(smoothed))}")
    if loss.get("ipo_reduction") == "sum":
        found.append("loss.ipo_reduction: sum: TRL takes the mean")
    if loss.get("ld_alpha_on") == "policy":
        found.append("loss.ld_alpha_on: policy: TRL changes the reference too")
    if loss.get("wpo_clamp") == "one":
        found.append("loss.wpo_clamp: one: TRL's weights may exceed 1")
    if trainer.get("use_weighting") and names & WEIGHTING_FAILS_IN_TRL:
        listed = ", ".join(sorted(names & WEIGHTING_FAILS_IN_TRL))
        found.append(f"trainer.use_weighting: TRL stops with a RuntimeError when it weights {listed}")
    if loss.get("margin") is not None:
        found.append("loss.margin: TRL has no margins")
    return found


def check_batch_is_whole(losses: Sequence[str], accumulation_steps: int, num_ranks: int) -> None:
    """A loss that sorts the batch must see all of it at once.

    Raises:
        ConfigError: under gradient accumulation or in several processes.
    """
    sorting = sorted(set(losses) & SORTING_LOSSES)
    if sorting and (accumulation_steps != 1 or num_ranks != 1):
        raise ConfigError(
            f"trainer.loss_type: {', '.join(sorting)} sorts the batch, so one process must hold all of it, but here "
            f"it is cut in {accumulation_steps} micro-batches on {num_ranks} ranks; set "
            "gradient_accumulation_steps: 1 and start one process, or choose another loss"
        )

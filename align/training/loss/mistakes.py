"""Mistakes: combinations of `trainer:` and `loss:` that no path would honour, found before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from align.settings.base import Location, did_you_mean
from align.training.loss.registry import (
    LABEL_SMOOTHING_OURS,
    LABEL_SMOOTHING_TRL,
    LOSSES_TRL_LACKS,
    OUR_LOSSES,
    SORTING_LOSSES,
    TRL_LOSSES,
    loss_types,
    needs_our_path,
    needs_trl_path,
)

Mistakes = Iterator[tuple[Location, str]]

_LD_LOSSES = frozenset(OUR_LOSSES | TRL_LOSSES.keys()) - {"sft"}


def loss_mistakes(raw: Mapping[str, Any]) -> Mistakes:
    """Mistakes as `Settings.mistakes` yields them.

    Args:
        raw: the whole recipe as read, not validated: a section or a value of the wrong type is passed over here, since
            validation names it.
    """
    trainer, loss = _section(raw, "trainer"), _section(raw, "loss")
    if not _is_names(trainer.get("loss_type")) or not _is_names(loss.get("type")):
        return
    yield from _named_twice(trainer, loss)
    names = loss_types(trainer, loss.get("type"))
    found = list(_unknown(names, loss))
    yield from found
    if found:
        return
    yield from _weights(names, trainer, loss)
    yield from _simpo(names, trainer, loss)
    yield from _ranges(names, trainer)
    yield from _would_be_ignored(set(names), trainer, loss)
    yield from _paths(trainer, loss)


def _section(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = raw.get(name)
    return value if isinstance(value, Mapping) else {}


def _is_names(value: Any) -> bool:
    return (
        value is None or isinstance(value, str) or (isinstance(value, list) and all(isinstance(n, str) for n in value))
    )


def _named_twice(trainer: Mapping[str, Any], loss: Mapping[str, Any]) -> Mistakes:
    for ours, theirs in (("type", "loss_type"), ("weights", "loss_weights")):
        if ours in loss and theirs in trainer:
            yield ("loss", ours), f"loss.{ours} and trainer.{theirs} name the same thing; give one of them"


def _unknown(names: Sequence[str], loss: Mapping[str, Any]) -> Mistakes:
    if not names:
        location = ("loss", "type") if "type" in loss else ("trainer", "loss_type")
        yield location, f"{'.'.join(location)} must name at least one loss, is []"
    for name in names:
        if loss.get("type") is None:
            yield from _unknown_to_trl(name)
        elif name in TRL_LOSSES:
            yield ("loss", "type"), f"loss.type: {name} cannot be summed with these: it runs on TRL's path only"
        elif name not in OUR_LOSSES | LOSSES_TRL_LACKS:
            hint = did_you_mean(name, sorted(OUR_LOSSES | LOSSES_TRL_LACKS))
            yield ("loss", "type"), f"loss.type: {name!r} is not a loss{hint}"
    if names and loss.get("type") is not None and set(names) <= OUR_LOSSES:
        sentence = f"TRL has {', '.join(names)} itself; name it in trainer.loss_type"
        yield ("loss", "type"), f"loss.type: {sentence}"


def _unknown_to_trl(name: str) -> Mistakes:
    known = sorted(OUR_LOSSES | TRL_LOSSES.keys())
    if name in LOSSES_TRL_LACKS:
        yield ("trainer", "loss_type"), f"trainer.loss_type: TRL's DPOConfig has no {name}; set loss: {{type: {name}}}"
    elif name not in known:
        sentence = f"{name!r} is not a loss of TRL's{did_you_mean(name, known)}"
        yield ("trainer", "loss_type"), f"trainer.loss_type: {sentence}"


def _weights(names: Sequence[str], trainer: Mapping[str, Any], loss: Mapping[str, Any]) -> Mistakes:
    for section, name, values in (("loss", "weights", loss), ("trainer", "loss_weights", trainer)):
        weights = values.get(name)
        if isinstance(weights, list) and len(weights) != len(names):
            yield (section, name), f"{section}.{name} must have one weight for each of {names}, is {weights}"
    if loss.get("weights") is not None and loss.get("type") is None:
        yield ("loss", "weights"), "loss.weights is refused: it belongs to loss.type; use trainer.loss_weights"


def _simpo(names: Sequence[str], trainer: Mapping[str, Any], loss: Mapping[str, Any]) -> Mistakes:
    given = [name for name in ("simpo_gamma", "simpo_gamma_beta_ratio") if loss.get(name) is not None]
    if "simpo" not in names:
        for name in given:
            yield ("loss", name), f"loss.{name} is refused: no loss named here reads it; it counts with simpo"
        return
    if len(given) != 1:
        sentence = "simpo needs one of loss.simpo_gamma and loss.simpo_gamma_beta_ratio (gamma / beta)"
        yield ("loss", "type"), f"loss.type: {sentence}; {'both are given' if given else 'none is given'}"
    if "beta" not in trainer:
        sentence = "simpo needs trainer.beta named: the paper has 2 to 10 on nats a token, and TRL's default is 0.1"
        yield ("loss", "type"), f"loss.type: {sentence}"


def _ranges(names: Sequence[str], trainer: Mapping[str, Any]) -> Mistakes:
    beta, smoothing, ld_alpha = (_number(trainer.get(name)) for name in ("beta", "label_smoothing", "ld_alpha"))
    if beta is not None and not beta > 0:
        yield ("trainer", "beta"), f"trainer.beta must be above 0, is {beta}"
    if smoothing is not None and not 0 <= smoothing <= 0.5:
        yield ("trainer", "label_smoothing"), f"trainer.label_smoothing must be from 0 to 0.5, is {smoothing}"
    if smoothing == 0.5 and "robust" in names:
        yield ("trainer", "label_smoothing"), "trainer.label_smoothing must be below 0.5 with robust, is 0.5"
    if ld_alpha is not None and not 0 <= ld_alpha <= 1:
        yield ("trainer", "ld_alpha"), f"trainer.ld_alpha must be from 0 to 1, is {ld_alpha}"


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _would_be_ignored(names: set[str], trainer: Mapping[str, Any], loss: Mapping[str, Any]) -> Mistakes:
    """A setting is there and is not its default, but no loss reads it (a run's own `config.yaml` names defaults)."""
    listed = ", ".join(sorted(names))
    smoothed = LABEL_SMOOTHING_OURS | LABEL_SMOOTHING_TRL
    checks = [
        ("trainer", "label_smoothing", bool(trainer.get("label_smoothing")), names & smoothed, smoothed),
        ("trainer", "ld_alpha", trainer.get("ld_alpha") is not None, names & _LD_LOSSES, _LD_LOSSES),
        ("trainer", "use_weighting", trainer.get("use_weighting") is True, names - {"sft"}, {"a preference loss"}),
        ("loss", "ipo_reduction", loss.get("ipo_reduction", "mean") != "mean", names & {"ipo"}, {"ipo"}),
        (
            "loss",
            "ld_alpha_on",
            loss.get("ld_alpha_on", "both") != "both",
            trainer.get("ld_alpha") is not None,
            {"trainer.ld_alpha"},
        ),
        (
            "loss",
            "wpo_clamp",
            loss.get("wpo_clamp", "none") != "none",
            trainer.get("use_weighting") is True,
            {"trainer.use_weighting: true"},
        ),
        ("loss", "margin", loss.get("margin") is not None, names & {"sigmoid"}, {"sigmoid"}),
    ]
    for section, name, is_given, is_read, readers in checks:
        if is_given and not is_read:
            sentence = f"nothing reads it with {listed}; it counts with {', '.join(sorted(readers))}"
            yield (section, name), f"{section}.{name} is refused: {sentence}"
    if loss.get("margin") is not None and trainer.get("label_smoothing"):
        yield ("loss", "margin"), "loss.margin is refused with trainer.label_smoothing: no margin is defined for a flip"
    if trainer.get("use_weighting") is True and names & SORTING_LOSSES:
        sentence = f"{', '.join(sorted(names & SORTING_LOSSES))} sorts the batch, which parts a weight from its pair"
        yield ("trainer", "use_weighting"), f"trainer.use_weighting is refused: {sentence}"


def _paths(trainer: Mapping[str, Any], loss: Mapping[str, Any]) -> Mistakes:
    """One setting needs our path and another TRL's."""
    ours, theirs = needs_our_path(trainer, loss), needs_trl_path(trainer)
    if ours and theirs:
        location: Location = tuple(theirs[0].split(":")[0].split("."))
        sentence = "; ".join([*theirs, *(f"but {reason}" for reason in ours)])
        yield location, f"{sentence}. The first runs on TRL's path only, the second not there; leave one out"

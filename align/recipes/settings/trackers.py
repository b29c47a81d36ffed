"""Trackers: which ones `trainer.report_to` may name, checked before anything heavy is imported."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping
from typing import Any

from align.settings.base import Location, did_you_mean

TRACKERS = ("wandb", "trackio", "swanlab", "tensorboard", "mlflow")
"""Names for `report_to`; each is also the name of the package to install."""

_UPLOADS = {
    "WANDB_LOG_MODEL": ("wandb", "upload the model folder yourself"),
    "WANDB_WATCH": ("wandb", "the model is not where the tracker is"),
    "HF_MLFLOW_LOG_ARTIFACTS": ("mlflow", "upload the model folder yourself"),
}
"""Environment variable that asks a tracker for the weights → (tracker, why it is refused)."""


def tracker_mistakes(raw: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
    """Trackers that are unknown, not installed, or asked for more than metrics, as `Settings.mistakes` yields them."""
    trainer = raw.get("trainer")
    if not isinstance(trainer, Mapping):
        return
    location = ("trainer", "report_to")
    for name in _named(trainer.get("report_to")):
        if name not in TRACKERS:
            hint = did_you_mean(name, list(TRACKERS)) or f"; it takes {', '.join(TRACKERS)} or none"
            yield location, f"trainer.report_to: {name!r} is not a tracker that is supported{hint}"
        elif importlib.util.find_spec(name) is None:
            yield location, f"trainer.report_to: {name} is not installed; run: pip install {name}"
        for variable, (tracker, reason) in _UPLOADS.items():
            if name == tracker and os.environ.get(variable, "false").lower() not in ("", "0", "false"):
                yield location, f"trainer.report_to: {variable} is set and would be ignored ({reason}); unset it"


def _named(report_to: Any) -> list[str]:
    names = [report_to] if isinstance(report_to, str) else report_to
    return [name for name in names if name != "none"] if isinstance(names, list) else []

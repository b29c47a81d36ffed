"""Recipe settings: what every training run may say, and the trainer's arguments that a recipe keeps to itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from align.config import Location, Settings
from align.installed import LORA_CONFIG


class DataSettings(Settings):
    """How rows are taken from the files."""

    on_bad_rows: Literal["fail", "drop"] = "fail"
    """`drop` trains on the good rows and counts the others; `fail` stops with exit code 3."""


class RecipeSettings(Settings):
    """Settings that every recipe has."""

    model: str
    """Hub name, folder, run folder, `.gguf` file, `modelscope:org/name` or `embedded:smollm2-135m`."""
    train_data: str
    """Rows to train on, `.jsonl` or `.parquet`."""
    eval_data: str | None = None
    """Rows for the held-out loss."""
    output_dir: str
    """Folder of the run."""
    compute: Literal["bfloat16", "float32"] = "bfloat16"
    """Arithmetic. In bfloat16, LoRA keeps a bfloat16 base and float32 adapters; full training keeps float32 weights."""
    lora: dict[str, Any] | None = None
    """LoRA settings; left out, all weights are trained."""
    data: DataSettings = DataSettings()
    """How rows are taken from the files."""
    trainer: dict[str, Any] = {}  # noqa: RUF012  # pydantic copies defaults
    """Arguments of the TRL trainer."""


PASS_THROUGH_LORA = {"lora": LORA_CONFIG}

OWNED_ARGUMENTS = {
    "output_dir": "set output_dir at the top level",
    "bf16": "set compute: bfloat16 or float32 at the top level",
    "fp16": "float16 loses small gradients; set compute: bfloat16 at the top level",
    "bf16_full_eval": "set compute at the top level",
    "fp16_full_eval": "set compute at the top level",
    "model_init_kwargs": "the model is loaded from model: and compute: at the top level",
    "deepspeed": "DeepSpeed is not supported yet in this version",
    "resume_from_checkpoint": "resuming is not supported yet in this version",
    "padding_free": "TRL accepts it and does not do it",
    "truncation_mode": "rows that are too long are refused or dropped (data: {on_bad_rows: drop}), never cut",
    "use_liger_kernel": "TRL has deprecated it",
    "push_to_hub": "pushing is not supported yet in this version; upload the model folder",
}
"""Arguments of the trainer that the recipe sets itself, or that TRL takes and ignores; each with what to do instead."""


def owned_arguments(raw: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
    """Mistakes in the sections every recipe has, as `Settings.mistakes` yields them."""
    trainer = raw.get("trainer")
    if isinstance(trainer, Mapping):
        for name in OWNED_ARGUMENTS.keys() & trainer.keys():
            yield ("trainer", name), f"trainer.{name} is refused: {OWNED_ARGUMENTS[name]}"

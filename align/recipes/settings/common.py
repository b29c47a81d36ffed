"""Recipe settings: what every training run may say, and the trainer's arguments that a recipe keeps to itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from align.recipes.settings.trackers import tracker_mistakes
from align.settings.base import Location, Settings
from align.settings.passthrough import LORA_CONFIG


class DataSettings(Settings):
    """How rows are taken from the files."""

    on_bad_rows: Literal["fail", "drop"] = "fail"
    """`drop` trains on the good rows and counts the others; `fail` stops with exit code 3."""


class ZeroSettings(Settings):
    """DeepSpeed ZeRO; needs a launcher."""

    stage: Literal[0, 1, 2, 3]
    """0 shards nothing, 1 the optimizer state, 2 the gradients too, 3 the weights too."""
    offload: Literal["none", "optimizer", "all"] = "none"
    """Keeps the optimizer state in main memory, or (stage 3) the weights too: less GPU memory, slower."""


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
    zero: ZeroSettings | str | None = None
    """DeepSpeed ZeRO: `{stage: 0|1|2|3, offload: none|optimizer|all}`, or the path of a DeepSpeed JSON file."""
    resume: Literal["auto", "anyway"] = "auto"
    """`auto` goes on from the newest checkpoint if nothing has changed that matters; `anyway` even if it has."""
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
    "deepspeed": "set zero: {stage: 2}, or zero: my_deepspeed.json, at the top level",
    "resume_from_checkpoint": "a run resumes by itself when its command is repeated; see resume: at the top level",
    "ignore_data_skip": "a run that resumes would see some rows twice and others never",
    "save_only_model": "such a checkpoint cannot be resumed from; the model is saved at the end anyway",
    "save_on_each_node": "output_dir must be a folder that all nodes share",
    "enable_jit_checkpoint": "SIGTERM and SIGUSR1 save a checkpoint already, and end with exit code 75",
    "auto_find_batch_size": "it changes the batch size without a word",
    "logging_nan_inf_filter": "a loss that is not finite stops the run",
    "disable_tqdm": "the recipe prints one line a step",
    "use_cpu": "hide the GPUs with CUDA_VISIBLE_DEVICES= instead",
    "padding_free": "TRL accepts it and does not do it",
    "truncation_mode": "rows that are too long are refused or dropped (data: {on_bad_rows: drop}), never cut",
    "use_liger_kernel": "TRL has deprecated it",
    "push_to_hub": "pushing is not supported yet in this version; upload the model folder",
}
"""Arguments of the trainer that the recipe sets itself, or that TRL takes and ignores; each with what to do instead."""


HARMLESS_ARGUMENTS = frozenset(
    [
        "eval_on_start",
        "eval_steps",
        "eval_strategy",
        "log_level",
        "logging_dir",
        "logging_first_step",
        "logging_steps",
        "logging_strategy",
        "report_to",
        "run_name",
        "save_steps",
        "save_strategy",
        "save_total_limit",
    ]
)
"""Arguments of the trainer that change what is written about a run, not the run."""


def owned_arguments(raw: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
    """Mistakes in the sections every recipe has, as `Settings.mistakes` yields them."""
    yield from _zero_mistakes(raw.get("zero"))
    yield from tracker_mistakes(raw)
    trainer = raw.get("trainer")
    if isinstance(trainer, Mapping):
        for name in OWNED_ARGUMENTS.keys() & trainer.keys():
            yield ("trainer", name), f"trainer.{name} is refused: {OWNED_ARGUMENTS[name]}"


def _zero_mistakes(zero: Any) -> Iterator[tuple[Location, str]]:
    if isinstance(zero, str) and not Path(zero).is_file():
        yield ("zero",), f"zero: must be a section or a DeepSpeed JSON file; there is no file {zero!r}"
    if not isinstance(zero, Mapping):
        return
    stage, offload = zero.get("stage"), zero.get("offload", "none")
    if offload == "optimizer" and stage == 0:
        yield ("zero", "offload"), "zero.offload: optimizer needs stage 1, 2 or 3; stage 0 shards nothing"
    if offload == "all" and stage != 3:
        yield ("zero", "offload"), "zero.offload: all needs stage 3, the only one that shards the weights"

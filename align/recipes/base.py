"""Recipe: one training run, from a YAML file to a folder with a model and the record of how it was made.

The base class owns the order (read rows, plan, build, check, train, save, report); a recipe fills in `build_trainer`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from align.data.files.rows import RowFile, checked_rows
from align.data.rows.pair import Row
from align.errors import ConfigError, RefusedError
from align.models.identity import fingerprints, template_sha256, tokenizer_sha256
from align.models.load import end_token_ids, load_tokenizer
from align.models.resolve import ResolvedModel, resolve
from align.recipes.settings.common import HARMLESS_ARGUMENTS, RecipeSettings
from align.settings.base import load_settings
from align.settings.command import entry_point
from align.settings.names import module_of

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import Trainer

    from align.training.loop.ranks import Ranks
    from align.training.rows.check import TokenReport


S = TypeVar("S", bound=RecipeSettings)


@dataclass(frozen=True)
class ReadyRows:
    """Rows as a trainer takes them."""

    dataset: Dataset
    tokens: TokenReport
    """What they hold, and how many rows of the file are not among them."""


class Recipe(ABC, Generic[S]):
    """One training run. Subclasses name their settings and build a trainer."""

    config_class: ClassVar[type[RecipeSettings]]
    row_class: ClassVar[type[Row]]
    sides: ClassVar[tuple[str, ...]]
    """Columns that are trained on, the one to be learned first."""

    settings: S

    def __init__(self, settings: S) -> None:
        self.settings = settings
        self._ready: dict[str, ReadyRows | None] = {}

    @classmethod
    def from_file(cls, path: str | None, *words: str) -> Recipe[Any]:
        """Read settings from a YAML file and `key=value` words.

        Raises:
            ConfigError: with every mistake in one message.
        """
        return cls(load_settings(cls.config_class, path, words))  # type: ignore[arg-type]

    @classmethod
    def main(cls, arguments: Sequence[str] | None = None) -> int:
        """The `python -m` entry point; returns the exit code."""
        return entry_point(module_of(cls), cls.__doc__ or "", cls.config_class, cls._run_with, arguments)

    @classmethod
    def _run_with(cls, settings: Any) -> None:
        is_failing = True
        try:
            cls(settings).run()
            is_failing = False
        finally:
            from align.training.loop.ranks import leave

            leave(is_failing)

    @abstractmethod
    def build_trainer(self) -> Trainer:
        """Make the trainer from `self.settings`, with rows from `self.dataset(...)`."""

    @cached_property
    def rows(self) -> dict[str, RowFile[Any]]:
        """`train`, and `eval` if there is such a file. Bad rows are refused, or dropped and counted."""
        paths = {"train": self.settings.train_data, "eval": self.settings.eval_data}
        return {
            name: checked_rows(path, self.row_class, self.settings.data.on_bad_rows)
            for name, path in paths.items()
            if path is not None
        }

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of the model."""
        return load_tokenizer(self.model)

    @cached_property
    def model(self) -> ResolvedModel:
        """What `settings.model` stands for."""
        return resolve(self.settings.model)

    @cached_property
    def model_files(self) -> dict[str, str | None]:
        """Fingerprints of the files that training starts from, read once: that takes long for a large model."""
        return fingerprints(self.model)

    def identity(self) -> dict[str, Any]:
        """What makes this run this run: settings that change weights, and fingerprints of all that it reads."""
        trainer = {name: value for name, value in self.settings.trainer.items() if name not in HARMLESS_ARGUMENTS}
        settings = self.settings.model_dump(mode="json", exclude={"output_dir", "compare", "resume", "trainer"})
        return {
            "recipe": type(self).__name__,
            "settings": {**settings, "trainer": trainer},
            "data": {name: file.fingerprint for name, file in self.rows.items()},
            "model": self.model_files,
            "tokenizer": tokenizer_sha256(self.tokenizer),
            "template": template_sha256(self.tokenizer),
        }

    def check(self, trainer: Trainer) -> dict[str, Any]:
        """What must hold before the first step; returns findings for the record. The trainer is ready to step."""
        return {}

    def check_resumed(self, trainer: Trainer, findings: dict[str, Any]) -> None:
        """What must hold before a run goes on from a checkpoint, given what `check` found when it began."""

    def probe_rows(self) -> list[list[int]]:
        """Token ids of the first training rows, prompt and first side: what tells one model from another."""
        from align.training.proof.probe import NUM_ROWS

        messages = []
        for row in self.rows["train"].rows[:NUM_ROWS]:
            columns = row.to_dict()
            candidates = columns.get("candidates")
            side = candidates[0]["messages"] if candidates else columns[self.sides[0]] if self.sides else []
            messages.append([*columns["prompt"], *side])
        texts = self.tokenizer.apply_chat_template(messages, tokenize=False)
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return ids

    def after_training(self, trainer: Trainer, findings: dict[str, Any]) -> dict[str, Any]:
        """What to add to the result once the last step is done."""
        return {}

    def may_save(self, trainer: Trainer) -> bool:
        """Whether a run that goes on from the step just done would be exact."""
        return True

    def run(self) -> dict[str, Any]:
        """Train, and return what stands in `result.json`.

        Raises:
            AlignError: for whatever stops the run on purpose.
        """
        from align.recipes.run.start import run_recipe

        return run_recipe(self)

    @cached_property
    def ranks(self) -> Ranks:
        """The processes of this run. At the first use libraries are set up, and those that a launcher started meet.

        Raises:
            ConfigError: when `zero:` is given and no launcher started this process.
        """
        from align.recipes.run.start import join_processes

        return join_processes(self.settings)

    def ready(self, name: Literal["train", "eval"]) -> ReadyRows | None:
        """The rows of a file that can be trained on, checked once; None when there is no such file."""
        if name not in self._ready:
            file = self.rows.get(name)
            self._ready[name] = None if file is None else self.make_ready(name, file)
        return self._ready[name]

    def dataset(self, name: Literal["train", "eval"]) -> Dataset | None:
        """The rows of `ready`, as TRL takes them."""
        ready = self.ready(name)
        return ready and ready.dataset

    @property
    def tokens(self) -> TokenReport:
        """What the rows to train on hold."""
        ready = self.ready("train")
        assert ready is not None, "every run has training rows"
        return ready.tokens

    def make_ready(self, name: Literal["train", "eval"], file: RowFile[Any]) -> ReadyRows:
        """The rows that fit; a recipe whose rows are checked in another way overrides this."""
        from datasets import Dataset

        from align.training.rows.check import check_tokens

        columns = ("prompt", *self.sides)
        rows = [{column: row.to_dict()[column] for column in columns} for row in file.rows]
        limit = self.settings.trainer.get("max_length", 1024)
        places = [f"{file.path}:{line}" for line in file.lines]
        kept, report = check_tokens(
            rows,
            places,
            self.sides,
            self.tokenizer,
            limit,
            self.settings.data.on_bad_rows,
            end_token_ids(self.model),
        )
        # Read by `trainer.train_sampling_strategy: group_by_length`, which fails in TRL's DPO without it.
        fitting = [{**rows[index], "length": length} for index, length in kept.items()]
        dataset = Dataset.from_list(fitting)
        return ReadyRows(dataset.add_column("row", list(kept)) if name == "train" else dataset, report)

    def trainer_arguments(self) -> dict[str, Any]:
        """Arguments of the TRL config: the user's, and the few that the recipe owns."""
        import torch

        return {
            "report_to": "none",
            "eval_strategy": "epoch" if self.settings.eval_data else "no",
            "run_name": Path(self.settings.output_dir).name,
            **{name: value for name, value in self.settings.trainer.items() if name != "save_total_limit"},
            "remove_unused_columns": False,  # `row` names what was in a batch, `length` is what `group_by_length` reads
            "output_dir": f"{self.settings.output_dir}/checkpoints",
            "bf16": self.settings.compute == "bfloat16",
            "use_cpu": not torch.accelerator.is_available(),
            "deepspeed": self._deepspeed_config(),
            "disable_tqdm": True,
            "logging_nan_inf_filter": False,
            "model_init_kwargs": None if self.model.adapter else {"dtype": self._storage_dtype()},
        }

    def _deepspeed_config(self) -> Any:
        zero = self.settings.zero
        if zero is None:
            return None
        from align.training.loop.zero import allow_deepspeed_checkpoints, deepspeed_config

        allow_deepspeed_checkpoints()
        if isinstance(zero, str):
            return zero
        return deepspeed_config(zero.stage, zero.offload, self.settings.compute == "bfloat16")

    def policy(self) -> Any:
        """The model to train: its name, so that the trainer loads it, or a loaded model with a trainable adapter."""
        if self.model.adapter is None:
            return self.model.path
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        if self.settings.lora is not None:
            raise ConfigError(f"lora: must be left out, since model {self.model.name} is an adapter and is trained on")
        base = AutoModelForCausalLM.from_pretrained(self.model.path, dtype=self._storage_dtype())
        return PeftModel.from_pretrained(base, self.model.adapter, is_trainable=True)

    def lora_config(self) -> Any:
        """peft's `LoraConfig`, or None for full training."""
        if self.settings.lora is None:
            return None
        from peft import LoraConfig

        return LoraConfig(**{"task_type": "CAUSAL_LM", **self.settings.lora})

    def prepare(self) -> Trainer:
        """Read the rows, print the plan and build the trainer, without starting a run."""
        if self.ranks.is_first:
            self._print_plan()
        trainer = self.build_trainer()
        if len(trainer.train_dataset) != self.tokens.num_rows and not self.settings.trainer.get("packing"):
            raise RefusedError("the trainer dropped rows that passed the checks; please report this with the data")
        return trainer

    def starting_reference(self) -> str:
        """What stands for the reference when it is the model that training starts from."""
        if self.model.adapter is not None:
            return f"a frozen copy of the adapter {self.model.adapter} that training starts from"
        if self.settings.lora is not None:
            return "the base weights, adapter switched off"
        return "a frozen copy of the model that training starts from"

    def _print_plan(self) -> None:
        kind = "LoRA" if self.settings.lora or self.model.adapter else "full"
        file = self.rows["train"]
        dropped = f", {len(file.bad)} bad rows dropped" if file.bad else ""
        print(f"{type(self).__name__}: {self.settings.model}, {kind}, {self.settings.compute}")
        print(f"  rows: {len(file.rows)} from {self.settings.train_data}{dropped}")

    def _storage_dtype(self) -> str:
        """Full training keeps float32 weights: a bfloat16 weight is too coarse for an AdamW step to change it."""
        has_adapter = self.settings.lora is not None or self.model.adapter is not None
        return "bfloat16" if self.settings.compute == "bfloat16" and has_adapter else "float32"

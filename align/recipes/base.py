"""Recipe: one training run, from a YAML file to a folder with a model and the record of how it was made.

The base class owns the order (read rows, plan, build, check, train, save, report); a recipe fills in `build_trainer`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from align import models
from align.command_line import entry_point
from align.config import load_settings
from align.data.files import RowFile, checked_rows
from align.data.pair import Demonstration, PreferencePair
from align.errors import EXIT_INTERRUPTED, AlignError, ConfigError, RefusedError
from align.recipes.settings import RecipeSettings
from align.runs import RunFolder, write_json

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import Trainer

    from align.training.tokens import TokenReport


S = TypeVar("S", bound=RecipeSettings)


class Recipe(ABC, Generic[S]):
    """One training run. Subclasses name their settings and build a trainer."""

    config_class: ClassVar[type[RecipeSettings]]
    row_class: ClassVar[type[PreferencePair] | type[Demonstration]]
    sides: ClassVar[tuple[str, ...]]
    """Columns that are trained on, the one to be learned first."""

    settings: S

    def __init__(self, settings: S) -> None:
        self.settings = settings
        self.tokens: dict[str, TokenReport] = {}

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
        module = f"align.recipes.{cls.__name__.removesuffix('Recipe').lower()}"
        return entry_point(module, cls.__doc__ or "", cls.config_class, cls._run_with, arguments)

    @classmethod
    def _run_with(cls, settings: Any) -> None:
        cls(settings).run()

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
        return models.load_tokenizer(self.model)

    @cached_property
    def model(self) -> models.ResolvedModel:
        """What `settings.model` stands for."""
        return models.resolve(self.settings.model)

    @cached_property
    def model_sha256(self) -> str:
        """Fingerprint of the base weights that training starts from; reading a large model takes long."""
        return models.weights_sha256(self.model.path)

    def check(self, trainer: Trainer) -> dict[str, Any]:
        """What must hold before the first step; returns findings for the record."""
        return {}

    def run(self) -> dict[str, Any]:
        """Train, and return what stands in `result.json`.

        Raises:
            AlignError: for whatever stops the run on purpose.
        """
        identity = {
            "recipe": type(self).__name__,
            "settings": self.settings.model_dump(mode="json", exclude={"output_dir", "compare"}),
            "data": {name: file.fingerprint for name, file in self.rows.items()},
            "model": self.model_sha256,
            "adapter": models.weights_sha256(self.model.adapter) if self.model.adapter else None,
        }
        run = RunFolder.open(self.settings.output_dir, self.settings.model_dump(mode="json"), identity)
        if run is None:
            print(f"{self.settings.output_dir}: this run is already finished; nothing to do")
            return {}
        try:
            result = self._train(run)
        except BaseException as error:
            run.finish(_exit_code(error), str(error) or type(error).__name__)
            raise
        run.finish(0, "done")
        return result

    def dataset(self, name: Literal["train", "eval"]) -> Dataset | None:
        """The rows that fit, as TRL takes them; None when there is no such file."""
        from datasets import Dataset

        from align.training.tokens import check_tokens

        file = self.rows.get(name)
        if file is None:
            return None
        columns = ("prompt", *self.sides)
        rows = [{column: row.to_dict()[column] for column in columns} for row in file.rows]
        limit = self.settings.trainer.get("max_length", 1024)
        places = [f"{file.path}:{line}" for line in file.lines]
        kept, report = check_tokens(rows, places, self.sides, self.tokenizer, limit, self.settings.data.on_bad_rows)
        self.tokens[name] = report
        # Read by `trainer.train_sampling_strategy: group_by_length`, which fails in TRL's DPO without it.
        return Dataset.from_list([{**rows[index], "length": length} for index, length in kept.items()])

    def trainer_arguments(self) -> dict[str, Any]:
        """Arguments of the TRL config: the user's, and the few that the recipe owns."""
        import torch

        return {
            "report_to": "none",
            "eval_strategy": "epoch" if self.settings.eval_data else "no",
            "remove_unused_columns": self.settings.trainer.get("train_sampling_strategy") != "group_by_length",
            **self.settings.trainer,
            "output_dir": self.settings.output_dir,
            "bf16": self.settings.compute == "bfloat16",
            "use_cpu": not torch.accelerator.is_available(),
            "disable_tqdm": True,
            "model_init_kwargs": None if self.model.adapter else {"dtype": self._storage_dtype()},
        }

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
        _quiet_libraries()
        self._print_plan()
        trainer = self.build_trainer()
        if len(trainer.train_dataset) != self.tokens["train"].num_rows and not self.settings.trainer.get("packing"):
            raise RefusedError("the trainer dropped rows that passed the checks; please report this with the data")
        return trainer

    def _train(self, run: RunFolder) -> dict[str, Any]:
        trainer = self.prepare()
        from transformers import PrinterCallback

        from align.training.record import RecordCallback
        from align.training.weights import WeightSample

        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(RecordCallback(run))
        findings = self.check(trainer)
        before = WeightSample(trainer.model)
        trainer.train()
        movement = before.compare(trainer.model)
        trainer.save_model(str(run.path / "model"))
        result = {
            **findings,
            "rows": self.tokens["train"].num_rows,
            "rows_too_long": self.tokens["train"].num_too_long,
            "bad_rows": len(self.rows["train"].bad),
            "learned_tokens_seen": round(self.tokens["train"].num_learned * (trainer.state.epoch or 0)),
            "steps": trainer.state.global_step,
            "trainable_weights": movement.num_trainable,
            "share_of_trainable_weights_moved": movement.trainable_share,
            "frozen_weights_moved": movement.num_frozen_moved,
            "weights_are_finite": not movement.has_non_finite,
        }
        self._report(run, result)
        return result

    def _report(self, run: RunFolder, result: dict[str, Any]) -> None:
        from align.recipes.card import write_card

        write_json(run.path / "result.json", result)
        write_card(run.path, type(self).__name__, self.settings, result)
        share = result["share_of_trainable_weights_moved"]
        print(f"  {share:.1%} of {result['trainable_weights']:,} trainable weights moved")
        if share < 0.5:
            print("  warning: most trainable weights did not move; is the learning rate far too small?")
        if result["frozen_weights_moved"] or not result["weights_are_finite"]:
            what = "a frozen weight moved" if result["frozen_weights_moved"] else "a weight is NaN or infinite"
            raise RefusedError(f"{run.path}: {what}; do not use this model")
        print(f"  saved: {run.path / 'model'}")

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


def _exit_code(error: BaseException) -> int:
    if isinstance(error, AlignError):
        return error.exit_code
    return EXIT_INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1


def _quiet_libraries() -> None:
    """One line a step is enough; downloads from the hub keep their own bars."""
    import os

    import torch

    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # TRL reports every trainer it builds
    if not torch.accelerator.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # deepspeed warns when it has to find that out
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    models.silence_renames()

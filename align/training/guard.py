"""Guard: what happens at the end of every step: all ranks agree to go on, to save, or to stop.

It is the last callback, so it has the last word on what the trainer's own callbacks asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from align.errors import NumericalError, StorageError
from align.runs import read_json, write_json
from align.training.checkpoints import Checkpoint, Checkpoints
from align.training.health import GRADIENT, LOSS, Health
from align.training.ranks import Ranks
from align.training.stopping import StopRequest


class AlreadyTrained(Exception):  # no error: the way out of a loop that has nothing left to do
    """The checkpoint that was loaded is the one of the last step."""


@dataclass
class Guard(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Saves, stops and checks; one for each training."""

    trainer: Trainer
    ranks: Ranks
    stop: StopRequest
    checkpoints: Checkpoints
    facts: Mapping[str, Any]
    """Written into every manifest."""
    name_rows: Callable[[list[int]], list[str]]
    """Row numbers → `file:line`."""
    keep: int | None = 2
    may_save: Callable[[], bool] = lambda: True
    """Whether a run that went on from here would be exact (GRPO: only between generations)."""
    resumed_from: Checkpoint | None = None
    before_first_step: Callable[[], None] = lambda: None
    """Called when the trainer is ready, before its first step."""

    def __post_init__(self) -> None:
        self.health = Health(self.trainer)
        self.is_saving = False
        self.stopped_with = 0
        """Exit code that was asked for, once all ranks have agreed on it."""
        self._is_save_due = False
        self._saved_step = -1

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take up the metrics where the checkpoint left them."""
        self.before_first_step()
        if self.resumed_from is not None:
            self._saved_step = self.resumed_from.step
            self._restore_progress(self.resumed_from.path)
            if state.global_step >= state.max_steps:
                raise AlreadyTrained

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """From here on a signal waits for the end of the step."""
        self.stop.can_wait = True
        self.health.begin_step()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Look at the gradients."""
        self.health.see_gradients()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Agree on whether to stop, and on whether to save now."""
        code, found = self.ranks.maximum(self.stop.code, self.health.found())
        if found:
            raise NumericalError(self._explain(found, state.global_step))
        if self._is_end_of_epoch(state) and args.eval_strategy == "epoch" and not code:
            # Saved after the evaluation, or a run that goes on from here would have lost it.
            self._is_save_due = self._is_save_due or control.should_save
            control.should_save = False
            return
        self._is_save_due = self._is_save_due or control.should_save or bool(code)
        self._decide(code, control)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The same after the evaluation of an epoch; a run that stops does not begin one."""
        if self.stopped_with:
            control.should_save = control.should_evaluate = control.should_log = False
            return
        self._is_save_due = (self._is_save_due or control.should_save) and self._saved_step != state.global_step
        self._decide(0, control)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """The trainer has written its files: add ours, commit, rotate."""
        step = state.global_step
        folder = self.checkpoints.folder / f"checkpoint-{step}"
        write_json(folder / self._progress_name(), self._progress())
        (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle that nobody reads
        (self.checkpoints.folder / "README.md").unlink(missing_ok=True)  # TRL's card of what is no model
        self.checkpoints.commit(step, self.facts, self.ranks)
        if self.ranks.is_first:
            self.checkpoints.rotate(self.keep, state.best_model_checkpoint)
        self.is_saving, self._is_save_due, self._saved_step = False, False, step
        if self.ranks.is_first:
            print(f"  checkpoint: {folder}", flush=True)

    def _decide(self, code: int, control: TrainerControl) -> None:
        control.should_save = self._is_save_due and self.may_save()
        if control.should_save:
            self.is_saving = True
            self.ranks.first(lambda: self.checkpoints.check_space(_bytes_of_state(self.trainer.model)))
        if code and (control.should_save or not self._is_save_due):
            self.stopped_with = code
            control.should_training_stop = True
            control.should_evaluate = False

    def _is_end_of_epoch(self, state: TrainerState) -> bool:
        return float(state.epoch or 0).is_integer()

    def _explain(self, found: int, step: int) -> str:
        what = {LOSS: "the loss", GRADIENT: "a gradient"}.get(found, "a weight")
        said = self.ranks.gather((self.name_rows(self.health.rows), self.name_rows(self.health.bad_rows)))
        rows, suspects = ([name for part in parts for name in part] for parts in zip(*said, strict=True))
        report = {"step": step, "found": what, "rows": rows, "rows_with_bad_loss": suspects}
        if self.ranks.is_first:
            write_json(self.checkpoints.folder.parent / "bad_step.json", report)
        last = f"the checkpoint of step {self._saved_step}" if self._saved_step >= 0 else "no checkpoint"
        shown = suspects or rows
        where = (
            f"Rows of {'the micro-batches where it is' if suspects else 'the step'}: {', '.join(shown[:8])}"
            f"{', …' if len(shown) > 8 else ''} (all in bad_step.json). Look at these rows, then at"
            if shown
            else "Its rows cannot be named, since they are packed together. Look at"
        )
        return (
            f"step {step}: {what} is NaN or infinite; stopped before anything was saved ({last} is from before). "
            f"{where} trainer.learning_rate and trainer.max_grad_norm."
        )

    def _progress_name(self) -> str:
        return f"progress-{self.ranks.rank}.json"

    def _progress(self) -> dict[str, Any]:
        """What the trainer keeps between two logged rows, in memory only."""
        trainer = self.trainer
        return {
            "loss_sum": float(trainer._tr_loss),
            "last_logged_step": trainer._globalstep_last_logged,
            "metrics": {mode: dict(values) for mode, values in getattr(trainer, "_metrics", {}).items()},
            "tokens": getattr(trainer, "_total_train_tokens", None),
        }

    def _restore_progress(self, folder: Path) -> None:
        saved = read_json(folder / self._progress_name())
        trainer = self.trainer
        trainer._tr_loss += torch.tensor(saved["loss_sum"], dtype=trainer._tr_loss.dtype)
        trainer._total_loss_scalar -= saved["loss_sum"]  # the final `train_loss` is about this attempt's steps
        trainer._globalstep_last_logged = saved["last_logged_step"]
        for mode, values in saved["metrics"].items():
            trainer._metrics[mode].update(values)
        if saved["tokens"] is not None:
            trainer._total_train_tokens = saved["tokens"]

    def storage_error(self, error: BaseException) -> StorageError | None:
        """The error of a save that the disk ended, or None; what was half written is removed."""
        if not self.is_saving:
            return None
        try:
            self.checkpoints.check_space(_bytes_of_state(self.trainer.model))
        except StorageError as full:
            self.checkpoints.remove_unfinished()
            full.__cause__ = error
            return full
        return None


def _bytes_of_state(model: torch.nn.Module) -> int:
    """Bytes of a checkpoint by estimate: trained weights in their type, and two float32 moments of each."""
    trained = [getattr(p, "ds_tensor", p) for p in model.parameters() if p.requires_grad]
    return sum(p.numel() * (p.element_size() + 8) for p in trained)

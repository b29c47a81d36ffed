"""Guard: what happens at the end of every step: all ranks agree to go on, to save, or to stop.

It is the last callback, so it has the last word on what the trainer's own callbacks asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from align.errors import NumericalError, StorageError
from align.store.records import read_json, write_json
from align.training.loop.checkpoints import Checkpoint, Checkpoints
from align.training.loop.disk import bytes_of_checkpoint, storage_error
from align.training.loop.health import GRADIENT, LOSS, Health
from align.training.loop.ranks import Ranks, shared
from align.training.loop.resume_state import (
    check_moving_reference,
    expect_tied_weights,
    forget_evaluation,
    own_random_state,
    progress,
    restore_moving_reference,
    restore_progress,
    save_moving_reference,
    seed_row_order,
)
from align.training.loop.stopping import StopRequest


class AlreadyTrained(Exception):  # no error: the way out of a loop that has nothing left to do
    """The checkpoint that was loaded is the one of the last step."""


class EvaluationCut(Exception):  # no error: the way out of an evaluation that a stop has cut off
    """A checkpoint is saved, and the evaluation is made up for when the run goes on."""


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
        self._is_evaluation_due = False
        self._saved_step = -1
        expect_tied_weights(self.trainer)
        self._watch_evaluation()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take up the metrics where the checkpoint left them."""
        check_moving_reference(self.trainer)
        self.before_first_step()
        if self.resumed_from is not None:
            self._saved_step = self.resumed_from.step
            saved = read_json(self.resumed_from.path / self._progress_name())
            restore_progress(self.trainer, saved)
            restore_moving_reference(self.trainer, self.resumed_from.path)
            if saved["evaluation_due"]:
                self._make_up_for_evaluation(self.resumed_from.path)
            if state.global_step >= state.max_steps:
                raise AlreadyTrained

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The order of an epoch's rows follows from the seed and its number, also in a run that goes on within it."""
        seed = args.seed if args.data_seed is None else args.data_seed
        seed_row_order(kwargs["train_dataloader"], seed + int(state.epoch or 0))

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
            raise shared(NumericalError(self._explain(found, state.global_step)))
        is_last = self._is_last_of_epoch(state)
        if is_last and args.logging_strategy == "epoch":
            control.should_log = True  # now, or a run that goes on from a checkpoint made here would log it later
        is_evaluation_next = is_last and args.eval_strategy == "epoch" and args.eval_delay <= float(state.epoch or 0)
        self._is_save_due = self._is_save_due or control.should_save or bool(code)
        if is_evaluation_next and not code:
            control.should_save = False  # but after the evaluation, or a run that goes on from here would have lost it
            return
        self._decide(code, control)
        if self.stopped_with:
            self._is_evaluation_due = control.should_evaluate or is_evaluation_next
            control.should_evaluate = False

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The same after the evaluation of an epoch; a run that stops does not begin one."""
        if self.stopped_with:
            control.should_save = control.should_evaluate = control.should_log = False
            return
        self._is_save_due = (self._is_save_due or control.should_save) and self._saved_step != state.global_step
        self._decide(0, control)

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave an evaluation that would keep a stop waiting."""
        if self.stop.can_wait and self.may_save() and self.ranks.maximum(self.stop.code)[0]:
            raise EvaluationCut

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """The trainer has written its files: add ours, commit, rotate."""
        step = state.global_step
        folder = self.checkpoints.folder / f"checkpoint-{step}"
        evaluation_due = {"evaluation_due": self._is_evaluation_due}
        write_json(folder / self._progress_name(), {**progress(self.trainer), **evaluation_due})
        save_moving_reference(self.trainer, folder)
        (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle that nobody reads
        (self.checkpoints.folder / "README.md").unlink(missing_ok=True)  # TRL's card of what is no model
        self.checkpoints.commit(step, self.facts, self.ranks)
        if self.ranks.is_first:
            self.checkpoints.rotate(self.keep, state.best_model_checkpoint)
        self.is_saving, self._is_save_due, self._saved_step = False, False, step
        if self.ranks.is_first:
            print(f"  checkpoint: {folder}", flush=True)
        code = self.ranks.maximum(self.stop.code)[0]
        if code:
            self.stopped_with = code
            control.should_training_stop = True

    def _decide(self, code: int, control: TrainerControl) -> None:
        control.should_save = self._is_save_due and self.may_save()
        if control.should_save:
            self._begin_save()
        if code and (control.should_save or not self._is_save_due):
            self.stopped_with = code
            control.should_training_stop = True

    def _begin_save(self) -> None:
        self.is_saving = True
        self.ranks.first(lambda: self.checkpoints.check_space(bytes_of_checkpoint(self.trainer)))

    def _is_last_of_epoch(self, state: TrainerState) -> bool:
        """Whether the trainer ends an epoch after this step; it does so after the last step wherever that is."""
        return float(state.epoch or 0).is_integer() or state.global_step >= state.max_steps

    def _watch_evaluation(self) -> None:
        """Evaluations leave the random state of training alone, and a stop cuts them off."""
        original = self.trainer.evaluate

        def evaluate(*args: Any, **kwargs: Any) -> dict[str, float]:
            try:
                with own_random_state():
                    measured: dict[str, float] = original(*args, **kwargs)
                return measured
            except EvaluationCut:
                self._stop_without_evaluation()
                raise

        self.trainer.evaluate = evaluate

    def _stop_without_evaluation(self) -> None:
        trainer = self.trainer
        self.stopped_with = self.ranks.maximum(self.stop.code)[0]
        self._is_evaluation_due = True
        forget_evaluation(trainer)
        if self._saved_step != trainer.state.global_step:
            self._begin_save()
            trainer._save_checkpoint(trainer.model_wrapped, None)
            self.on_save(trainer.args, trainer.state, trainer.control)

    def _make_up_for_evaluation(self, folder: Path) -> None:
        self.trainer._load_rng_state(str(folder))  # an evaluation may sample
        metrics = self.trainer._evaluate(None, None)
        if self.trainer._determine_best_metric(metrics, None):
            self.trainer.state.best_model_checkpoint = str(folder)

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

    def storage_error(self, error: BaseException) -> StorageError | None:
        """The error of a disk that refused, or None; what was half written is removed."""
        num_bytes = bytes_of_checkpoint(self.trainer) if self.is_saving else None
        return storage_error(error, self.checkpoints, num_bytes, removes=self.ranks.is_first)

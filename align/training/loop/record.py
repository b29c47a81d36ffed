"""Record: every row that the trainer logs goes to `metrics.jsonl`, and one short line to the terminal."""

from __future__ import annotations

import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from align.store.run_folder import RunFolder

_SHOWN = {
    "loss": "loss",
    "eval_loss": "held-out loss",
    "rewards/accuracies": "accuracy",
    "rewards/margins": "margin",
    "mean_token_accuracy": "token accuracy",
    "reward": "reward",
    "grad_norm": "gradient",
}


class RecordCallback(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Writes metrics as TRL names them; our own file is the record, whatever a tracker loses."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self._started, self._first_step = time.monotonic(), 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock behind the time-left figure."""
        self._started, self._first_step = time.monotonic(), state.global_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep one row of metrics."""
        if not state.is_world_process_zero or not logs:
            return
        self.run.log({"step": state.global_step, **logs})
        shown = [f"{label} {logs[name]:.4g}" for name, label in _SHOWN.items() if logs.get(name) is not None]
        if shown:
            print(
                f"  step {state.global_step}/{state.max_steps}  {'  '.join(shown)}{self._time_left(state)}", flush=True
            )

    def _time_left(self, state: TrainerState) -> str:
        if not self._first_step < state.global_step < state.max_steps:
            return ""
        seconds_a_step = (time.monotonic() - self._started) / (state.global_step - self._first_step)
        seconds = seconds_a_step * (state.max_steps - state.global_step)
        return f"  ({int(seconds // 60)}:{int(seconds % 60):02d} left)"

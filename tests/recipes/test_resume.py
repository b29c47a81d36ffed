"""Resume: a run that goes on writes the same metrics and ends at the same bytes, and refuses what has changed."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from transformers import AutoTokenizer, TrainerCallback

from align.data.files.rows import write_rows
from align.errors import ConfigError, PreemptedError, RefusedError
from align.models.identity import weights_sha256
from align.recipes.dpo import DPORecipe
from align.recipes.grpo import GRPORecipe
from align.recipes.sft import SFTRecipe
from align.store.records import read_json
from tests.recipes.conftest import pair
from tests.recipes.processes import STEP, Blow, final_sha256, history, start_apart
from tests.recipes.test_dpo import LORA

DROPOUT = "lora={r: 4, lora_alpha: 8, target_modules: all-linear, lora_dropout: 0.2}"


@pytest.fixture
def words(tiny_model, tmp_path) -> list[str]:
    """Ten steps of four rows, five steps an epoch; nothing divides anything."""
    write_rows(tmp_path / "pairs.jsonl", [pair(number, chosen="good " * (number % 5 + 1)) for number in range(20)])
    write_rows(tmp_path / "heldout.jsonl", [pair(number) for number in range(20, 24)])
    return [
        f"model={tiny_model}",
        f"train_data={tmp_path / 'pairs.jsonl'}",
        f"eval_data={tmp_path / 'heldout.jsonl'}",
        f"output_dir={tmp_path / 'run'}",
        "compute=float32",
        "trainer={max_steps: 10, logging_steps: 3, learning_rate: 1e-3, per_device_train_batch_size: 4, save_steps: 2}",
        "trainer.gradient_checkpointing=false",
    ]


GRPO = [
    "rewards=[{use: tests.recipes.processes.byte_sum}]",
    "trainer.num_generations=4",
    "trainer.steps_per_generation=3",
    "trainer.max_completion_length=6",
    "trainer.max_steps=14",
]


def stopping_at(recipe_class, steps, during="step"):
    """The recipe, asked to stop by a signal within a step, or within the evaluation after it."""
    left = list(steps)

    class Signal(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if during == "step" and left and state.global_step + 1 == left[0]:
                left.pop(0)
                os.kill(os.getpid(), signal.SIGTERM)

        def on_prediction_step(self, args, state, control, **kwargs):
            if during == "evaluation" and left and state.global_step == left[0]:
                left.pop(0)
                os.kill(os.getpid(), signal.SIGTERM)

    class Stopping(recipe_class):
        def build_trainer(self):
            trainer = super().build_trainer()
            trainer.callback_handler.callbacks.insert(0, Signal())
            return trainer

    Stopping.__name__ = recipe_class.__name__
    return Stopping


def train(recipe_class, words, *more):
    return recipe_class.from_file(None, *words, *more).run()


def assert_exact(recipe_class, words, tmp_path, steps, *more, during="step"):
    """Stop at each of the steps and go on; compare with the run that nothing stopped."""
    undisturbed, run = tmp_path / "undisturbed", tmp_path / "run"
    train(recipe_class, words, *more, f"output_dir={undisturbed}")
    stopping = stopping_at(recipe_class, steps, during)
    for _ in steps:
        with pytest.raises(PreemptedError):
            train(stopping, words, *more)
    result = train(stopping, words, *more)
    assert history(run) == history(undisturbed)
    assert final_sha256(run) == final_sha256(undisturbed)
    assert result == read_json(run / "result.json") == read_json(undisturbed / "result.json")
    return history(undisturbed)


def test_metrics_are_exact_when_nothing_divides_anything(words, tmp_path):
    rows = assert_exact(DPORecipe, words, tmp_path, [4, 7])
    assert [step for step, is_heldout in rows if not is_heldout] == [3, 6, 9]
    assert [step for step, is_heldout in rows if is_heldout] == [5, 10]


def test_accumulation_and_dropout_are_exact_within_an_epoch(words, tmp_path):
    accumulation = ["trainer.per_device_train_batch_size=2", "trainer.gradient_accumulation_steps=2"]
    assert_exact(DPORecipe, words, tmp_path, [3], DROPOUT, *accumulation)


@pytest.mark.parametrize("during", ["step", "evaluation"])
def test_an_evaluation_that_a_stop_cut_off_is_made_up_for(words, tmp_path, during):
    assert_exact(DPORecipe, words, tmp_path, [5], DROPOUT, during=during)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(row["attempt"], row["step"]) for row in lines if "eval_loss" in row] == [(2, 5), (2, 10)]


@pytest.mark.parametrize("during", ["step", "evaluation"])
def test_an_evaluation_after_the_last_step_is_made_up_for(words, tmp_path, during, capsys):
    assert_exact(SFTRecipe, words, tmp_path, [8], "trainer.max_steps=8", during=during)
    assert "all 8 steps were done already" in capsys.readouterr().out


def test_an_evaluation_at_a_step_is_made_up_for(words, tmp_path):
    assert_exact(SFTRecipe, words, tmp_path, [4], "trainer.eval_strategy=steps", "trainer.eval_steps=4", DROPOUT)


def test_saving_and_logging_once_an_epoch_is_exact_at_its_boundary(words, tmp_path):
    once = ["trainer.save_strategy=epoch", "trainer.logging_strategy=epoch"]
    rows = assert_exact(SFTRecipe, words, tmp_path, [5], DROPOUT, *once)
    assert [step for step, _ in rows] == [5, 5, 10, 10]


def test_a_reference_that_moves_is_part_of_a_checkpoint(words, tmp_path):
    moving = ["sync_ref_model=true", "ref_model_sync_steps=2", "ref_model_mixup_alpha=0.5"]
    assert_exact(DPORecipe, words, tmp_path, [3, 7], *(f"trainer.{word}" for word in moving))


def test_grpo_is_exact_from_the_end_of_a_generation_also_in_a_later_epoch(words, tmp_path):
    """Three steps a generation of three prompts, six steps an epoch; no step that is asked to stop ends one."""
    write_rows(tmp_path / "pairs.jsonl", [pair(number) for number in range(6)])
    words = [word for word in words if not word.startswith("eval_data")]
    rows = assert_exact(GRPORecipe, words, tmp_path, [4, 11], LORA, *GRPO)
    assert [step for step, _ in rows] == [3, 6, 9, 12]


def test_an_evaluation_that_samples_is_made_up_for_too(words, tmp_path):
    write_rows(tmp_path / "pairs.jsonl", [pair(number) for number in range(6)])
    sampled = ["trainer.eval_strategy=epoch", "trainer.per_device_eval_batch_size=4"]
    rows = assert_exact(GRPORecipe, words, tmp_path, [6], LORA, *GRPO, *sampled, during="evaluation")
    assert [step for step, is_heldout in rows if is_heldout] == [6, 12, 14]


def test_rows_grouped_by_length_come_in_the_same_order_in_a_later_epoch(words, tmp_path):
    assert_exact(DPORecipe, words, tmp_path, [7], "trainer.train_sampling_strategy=group_by_length")


def test_the_best_model_survives_rotation_and_is_loaded_after_a_stop_at_the_last_step(words, tmp_path):
    load_best = ["trainer.load_best_model_at_end=true", "trainer.save_total_limit=1"]
    worst_is_best = [
        "trainer.metric_for_best_model=loss",
        "trainer.greater_is_better=true",
    ]  # so that it is an early one
    each = ["trainer.eval_strategy=steps", "trainer.eval_steps=2"]
    assert_exact(SFTRecipe, words, tmp_path, [4, 10], *load_best, *worst_is_best, *each)
    kept = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert kept == {"checkpoint-2", "checkpoint-10"}
    best = tmp_path / "run" / "checkpoints" / "checkpoint-2"
    assert final_sha256(tmp_path / "run") == weights_sha256(str(best))


def test_nothing_is_said_about_the_tied_head(words, caplog):
    with pytest.raises(PreemptedError):
        train(stopping_at(SFTRecipe, [2]), words)
    train(SFTRecipe, words)
    assert "missing keys" not in caplog.text


@pytest.fixture
def own_model(tiny_model, tmp_path) -> Path:
    """A copy of the model that a test may change."""
    shutil.copytree(tiny_model, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def stopped(words, own_model, tmp_path) -> list[str]:
    """Words of a run that was stopped after its third step."""
    words = [*words, f"model={own_model}"]
    with pytest.raises(PreemptedError):
        train(stopping_at(DPORecipe, [3]), words)
    return words


def change_data(folder: Path) -> None:
    write_rows(folder / "pairs.jsonl", [pair(number, chosen="excellent") for number in range(20)])


def change_heldout(folder: Path) -> None:
    write_rows(folder / "heldout.jsonl", [pair(number) for number in range(30, 34)])


def change_weights(folder: Path) -> None:
    file = folder / "model" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def change_tokenizer(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    tokenizer.add_tokens(["<|new|>"])
    tokenizer.save_pretrained(folder / "model")


def change_template(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    tokenizer.chat_template += "{# changed #}"
    tokenizer.save_pretrained(folder / "model")


def test_what_changes_the_run_is_named_and_refused(stopped, tmp_path, tiny_model):
    """One run after the other on the same folder: a refusal leaves the checkpoint as it is."""
    changes = {
        "settings.trainer.learning_rate: 0.001 → 0.002": ["trainer.learning_rate=2e-3"],
        "settings.trainer.loss_type: None → ipo": ["trainer.loss_type=ipo"],
        f"settings.reference: auto → {tiny_model}": [f"reference={tiny_model}"],
        "settings.lora: None → {": [LORA],
        "data.train": change_data,
        "data.eval": change_heldout,
        "model.weights: ": change_weights,
        "tokenizer: ": change_tokenizer,
        "template: ": change_template,
    }
    for named, change in changes.items():
        words = [*stopped, *change] if isinstance(change, list) else stopped
        if callable(change):
            change(tmp_path)
        with pytest.raises(ConfigError, match="another run has checkpoints here") as refused:
            train(DPORecipe, words)
        assert named in str(refused.value)
        assert read_json(tmp_path / "run" / "exit.json")["code"] == 2


def test_anyway_goes_on_although_something_has_changed(stopped, tmp_path, capsys):
    train(DPORecipe, stopped, "trainer.learning_rate=2e-3", "resume=anyway")
    said = capsys.readouterr().out
    assert "resume: anyway, although these are different now:\n  settings.trainer.learning_rate: 0.001 → 0.002" in said
    assert read_json(tmp_path / "run" / "result.json")["steps"] == 10


def test_harmless_changes_resume_and_take_effect(stopped, tmp_path):
    harmless = ["trainer.logging_steps=1", "trainer.save_steps=4", "trainer.save_total_limit=3"]
    train(DPORecipe, stopped, *harmless, "trainer.run_name=another", "trainer.eval_strategy='no'")
    assert [step for step, _ in history(tmp_path / "run")] == [3, 4, 5, 6, 7, 8, 9, 10]
    kept = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert kept == {"checkpoint-4", "checkpoint-8", "checkpoint-10"}


@pytest.mark.parametrize("keep", [-1, 0])
def test_a_limit_that_means_all_to_transformers_keeps_every_checkpoint(words, tmp_path, keep):
    train(SFTRecipe, words, "trainer.save_strategy=steps", "trainer.save_steps=1", f"trainer.save_total_limit={keep}")
    kept = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert kept == {f"checkpoint-{step}" for step in range(1, 11)}


@pytest.mark.parametrize("is_link", [False, True])
def test_a_model_that_holds_files_of_somebody_else_is_kept_aside(words, tmp_path, capsys, is_link):
    train(SFTRecipe, words)
    model = tmp_path / "run" / "model"
    if is_link:
        model.rename(tmp_path / "moved")
        model.symlink_to(tmp_path / "moved")
    else:
        (model / "model-f16.gguf").write_text("mine")
    train(SFTRecipe, words, "trainer.max_steps=12", "resume=anyway")
    kept = tmp_path / "run" / "model.before-2"
    assert kept.is_symlink() is is_link and (is_link or (kept / "model-f16.gguf").read_text() == "mine")
    assert f"kept as {kept}" in capsys.readouterr().out
    assert (model / "model.safetensors").is_file() and not (model / "model-f16.gguf").exists()


def test_training_into_the_folder_of_the_model_changes_nothing_in_it(words, tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "mine" / "model")
    before = {path: path.read_bytes() for path in (tmp_path / "mine").rglob("*") if path.is_file()}
    for folder in ("mine", "mine/model"):
        with pytest.raises(ConfigError, match="must be new, empty or the folder of a run"):
            train(SFTRecipe, words, f"model={tmp_path}/mine/model", f"output_dir={tmp_path / folder}")
    assert {path: path.read_bytes() for path in (tmp_path / "mine").rglob("*") if path.is_file()} == before


def test_a_second_process_on_the_same_folder_is_refused_by_the_name_of_the_first(words, tmp_path):
    halted = start_apart("align.recipes.sft.SFTRecipe", words, tmp_path / "output", Blow(STEP, 0, signal.SIGSTOP))
    halted.wait_for_blow()
    with pytest.raises(RefusedError, match=f"process {halted.process.pid} on .* is writing into this folder"):
        train(SFTRecipe, words)
    os.kill(halted.process.pid, signal.SIGCONT)
    assert halted.wait().code == 0

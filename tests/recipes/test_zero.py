"""ZeRO: two processes under a launcher learn what one process learns.

All on a CPU in float32 with the same global batch. Slow: each case starts two processes, which import DeepSpeed.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from align.data.files.rows import write_rows
from align.data.rows.pair import Message, PreferencePair
from tests.recipes.launching import LORA, command, environment, launch, metrics

pytestmark = pytest.mark.slow

STAGES = {"1": ["zero.stage=1"], "2": ["zero.stage=2"], "3": ["zero.stage=3"]}
STAGES["2 with offload"] = ["zero={stage: 2, offload: optimizer}"]
KINDS = {"full": [], "lora": [LORA]}
NUM_STEPS = 10


def settings(model: str, data: str, folder: Path, per_process: int) -> list[str]:
    return [
        f"model={model}",
        f"train_data={data}",
        f"output_dir={folder}",
        "compute=float32",
        f"trainer={{max_steps: {NUM_STEPS}, logging_steps: 1, learning_rate: 1e-4, save_strategy: 'no'}}",
        f"trainer.per_device_train_batch_size={per_process}",
        "trainer.gradient_checkpointing=false",
    ]


def run(launcher: str, recipe: str, words: list[str], folder: Path):
    done = launch(launcher, recipe, words)
    assert done.returncode == 0, done.stdout[-3000:]
    return metrics(folder), done.stdout


@pytest.fixture(scope="module")
def in_one_process(tiny_model, tmp_path_factory):
    """(recipe, kind) → rows of the run in one process, each made once."""
    made = {}

    def rows(recipe: str, kind: str, data: str):
        if (recipe, kind) not in made:
            folder = tmp_path_factory.mktemp(f"{recipe}-{kind}")
            words = [*settings(tiny_model, data, folder, per_process=4), *KINDS[kind]]
            made[recipe, kind] = run("python", recipe, words, folder)[0]
        return made[recipe, kind]

    return rows


def assert_equal(rows, expected):
    """Losses and gradient norms to 1e-5: absolute, and relative for numbers above 1."""
    assert [row["step"] for row in rows] == [row["step"] for row in expected] == list(range(1, NUM_STEPS + 1))
    for name in ("loss", "grad_norm"):
        assert [row[name] for row in rows] == pytest.approx([row[name] for row in expected], abs=1e-5, rel=1e-5)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("recipe", ["sft", "dpo"])
def test_two_processes_learn_what_one_learns(tiny_model, pairs_file, tmp_path, in_one_process, recipe, kind, stage):
    words = [*settings(tiny_model, pairs_file, tmp_path / "run", per_process=2), *KINDS[kind], *STAGES[stage]]
    rows, output = run("deepspeed", recipe, words, tmp_path / "run")
    assert f"2 processes (backend gloo), ZeRO stage {stage[0]}" in output
    assert_equal(rows, in_one_process(recipe, kind, pairs_file))


@pytest.fixture(scope="module")
def ragged_file(tmp_path_factory):
    """Pairs of which some take fifty times the tokens of others."""
    rows = [
        PreferencePair(
            (Message("user", "why " * (1 + 7 * number % 40)),),
            (Message("assistant", "since " * (1 + 5 * number % 23)),),
            (Message("assistant", "no " * (2 + 11 * number % 31)),),
            {},
        )
        for number in range(16)
    ]
    path = tmp_path_factory.mktemp("ragged") / "pairs.jsonl"
    write_rows(path, rows)
    return str(path)


@pytest.mark.parametrize("forward", ["forward=tree", "forward=padded"])
@pytest.mark.parametrize("stage", ["2", "3"])
@pytest.mark.parametrize("kind", KINDS)
def test_processes_with_unequal_work_learn_what_one_learns(tiny_model, ragged_file, tmp_path, kind, stage, forward):
    """Each process cuts its micro-batch into as many forwards as its own rows need, and no two need the same."""
    one, two = tmp_path / "one", tmp_path / "two"
    more = [*KINDS[kind], "trainer.loss_type=[sigmoid, sft]", "trainer.learning_rate=1e-5"]
    expected, _ = run("python", "dpo", [*settings(tiny_model, ragged_file, one, 4), *more, "forward=padded"], one)
    budget = "tokens_per_forward=700" if forward == "forward=tree" else "tokens_per_forward=900"
    words = [*settings(tiny_model, ragged_file, two, 2), *more, forward, budget, *STAGES[stage]]
    rows, output = run("deepspeed", "dpo", words, two)
    assert forward.replace("=", ": ") in output
    assert_equal(rows, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_the_tree_goes_through_checkpoints_under_zero_3(tiny_model, ragged_file, tmp_path, kind):
    one, two = tmp_path / "one", tmp_path / "two"
    more = [*KINDS[kind], "trainer.learning_rate=1e-5"]
    expected, _ = run("python", "dpo", [*settings(tiny_model, ragged_file, one, 4), *more, "forward=padded"], one)
    words = [*settings(tiny_model, ragged_file, two, 2), *more, "forward=tree", *STAGES["3"]]
    rows, _ = run("deepspeed", "dpo", [*words, "trainer.gradient_checkpointing=true"], two)
    assert_equal(rows, expected)


@pytest.mark.parametrize("stage", ["2", "3"])
def test_reference_log_probs_scored_before_training_are_the_same(tiny_model, ragged_file, tmp_path, stage, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    one, two = tmp_path / "one", tmp_path / "two"
    expected, _ = run("python", "dpo", settings(tiny_model, ragged_file, one, 4), one)
    words = [*settings(tiny_model, ragged_file, two, 2), "trainer.precompute_ref_log_probs=true", *STAGES[stage]]
    rows, output = run("deepspeed", "dpo", words, two)
    assert "0 of 32 completions from the cache" in output
    assert_equal(rows, expected)


def test_torchrun_starts_zero_2_too(tiny_model, pairs_file, tmp_path, in_one_process):
    words = [*settings(tiny_model, pairs_file, tmp_path / "run", per_process=2), "zero.stage=2"]
    rows, output = run("torchrun", "dpo", words, tmp_path / "run")
    assert "2 processes (backend gloo), ZeRO stage 2" in output
    assert_equal(rows, in_one_process("dpo", "full", pairs_file))


def test_a_deepspeed_file_is_taken_as_it_is(tiny_model, pairs_file, tmp_path, in_one_process):
    file = tmp_path / "deepspeed.json"
    auto = dict.fromkeys(("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping"), "auto")
    file.write_text(json.dumps({**auto, "zero_optimization": {"stage": 1}}))
    words = [*settings(tiny_model, pairs_file, tmp_path / "run", per_process=2), f"zero={file}"]
    rows, output = run("deepspeed", "dpo", words, tmp_path / "run")
    assert "ZeRO stage 1" in output
    assert_equal(rows, in_one_process("dpo", "full", pairs_file))


def test_a_deepspeed_file_that_contradicts_the_trainer_is_refused(tiny_model, pairs_file, tmp_path):
    file = tmp_path / "deepspeed.json"
    file.write_text(json.dumps({"train_micro_batch_size_per_gpu": 7, "zero_optimization": {"stage": 1}}))
    done = launch(
        "deepspeed", "dpo", [*settings(tiny_model, pairs_file, tmp_path / "run", per_process=2), f"zero={file}"]
    )
    assert "zero: the DeepSpeed file contradicts the trainer section" in done.stdout
    assert json.loads((tmp_path / "run" / "exit.json").read_text())["code"] == 2


@pytest.mark.parametrize("stage", ["2", "3"])
def test_the_reference_of_an_sft_adapter_is_the_sft_model(tiny_model, pairs_file, tmp_path, stage):
    sft, one, two = (tmp_path / name for name in ("sft", "one", "two"))
    more = [LORA, "trainer.learning_rate=1e-2"]
    run("python", "sft", [*settings(tiny_model, pairs_file, sft, per_process=4), *more], sft)
    expected, output = run("python", "dpo", settings(str(sft), pairs_file, one, per_process=4), one)
    assert "as its run saved it" in output
    words = [*settings(str(sft), pairs_file, two, per_process=2), *STAGES[stage]]
    rows, output = run("deepspeed", "dpo", words, two)
    assert "as its run saved it" in output
    assert_equal(rows, expected)
    assert not (two / "model" / "ref").exists()


def grpo_settings(model: str, data: str, folder: Path, per_process: int, kind: str) -> list[str]:
    reward = "rewards=[{use: tests.recipes.replayed_grpo.letters}]"
    more = [reward, "trainer.num_generations=4", "trainer.max_completion_length=24", "trainer.beta=0.1", *KINDS[kind]]
    return [*settings(model, data, folder, per_process), *more]


@pytest.mark.parametrize("stage", ["2", "3"])
@pytest.mark.parametrize("kind", KINDS)
def test_grpo_on_replayed_completions_learns_what_one_process_learns(tiny_model, pairs_file, tmp_path, kind, stage):
    one, two = tmp_path / "one", tmp_path / "two"
    module = "tests.recipes.replayed_grpo"
    expected, _ = run("python", module, grpo_settings(tiny_model, pairs_file, one, 16, kind), one)
    words = [*grpo_settings(tiny_model, pairs_file, two, 8, kind), *STAGES[stage]]
    rows, output = run("deepspeed", module, words, two)
    assert f"ZeRO stage {stage}" in output
    assert any(abs(row["loss"]) > 1e-3 for row in expected)
    assert_equal(rows, expected)


@pytest.mark.parametrize("stage", ["2", "3"])
@pytest.mark.parametrize("kind", KINDS)
def test_grpo_samples_and_measures_greedily_in_two_processes(tiny_model, pairs_file, tmp_path, kind, stage):
    words = [
        *grpo_settings(tiny_model, pairs_file, tmp_path / "run", 8, kind),
        *STAGES[stage],
        f"eval_data={pairs_file}",
    ]
    rows, output = run("deepspeed", "grpo", [*words, "trainer.max_steps=3"], tmp_path / "run")
    assert len(rows) == 3
    assert output.count("held-out (greedy)") == 3


def killed_after_a_checkpoint(words: list[str], folder: Path) -> Path:
    """Start two processes and kill them, with their launcher, once they have saved step 6."""
    process = subprocess.Popen(
        command("deepspeed", "dpo", words),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    saved = folder / "checkpoints" / "checkpoint-6"
    deadline = time.monotonic() + 300
    while not (saved / "manifest.json").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "model").exists()
    return saved


def long_settings(model: str, data: str, folder: Path, stage: str) -> list[str]:
    more = ["trainer.max_steps=30", "trainer.save_strategy=steps", "trainer.save_steps=3"]
    return [*settings(model, data, folder, per_process=2), *more, *STAGES[stage]]


def sha256(folder: Path) -> str:
    return hashlib.sha256((folder / "model" / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("stage", ["2", "3"])
def test_a_killed_run_goes_on_to_the_same_weights(tiny_model, pairs_file, tmp_path, stage):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run("deepspeed", "dpo", long_settings(tiny_model, pairs_file, whole, stage), whole)
    words = long_settings(tiny_model, pairs_file, killed, stage)
    killed_after_a_checkpoint(words, killed)
    _, output = run("deepspeed", "dpo", words, killed)
    assert "resuming from" in output
    assert sha256(whole) == sha256(killed)


class Malicious:
    """Unpickled, it makes a file."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self):
        return os.system, (f"touch {self.made}",)


def test_a_shard_that_holds_code_is_not_run(tiny_model, pairs_file, tmp_path):
    words = long_settings(tiny_model, pairs_file, tmp_path / "run", "2")
    saved = killed_after_a_checkpoint(words, tmp_path / "run")
    for other in (tmp_path / "run" / "checkpoints").glob("checkpoint-*"):
        assert other.name <= saved.name
    manifest = json.loads((saved / "manifest.json").read_text())
    manifest.pop("sha256")
    for file in (saved / "global_step6").glob("*.pt"):
        torch.save({"module": Malicious(tmp_path / "made")}, file)
        entry = {"size": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        manifest["files"][f"global_step6/{file.name}"] = entry
    manifest["sha256"] = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (saved / "manifest.json").write_text(json.dumps(manifest))
    done = launch("deepspeed", "dpo", words)
    assert done.returncode != 0
    assert "holds more than tensors" in done.stdout
    assert not (tmp_path / "made").exists()

"""ZeRO: two processes under a launcher learn what one process learns.

All on a CPU in float32 with the same global batch. Slow: each case starts two processes, which import DeepSpeed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.recipes.launching import LORA, launch, metrics

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


def test_torchrun_starts_zero_2_too(tiny_model, pairs_file, tmp_path, in_one_process):
    words = [*settings(tiny_model, pairs_file, tmp_path / "run", per_process=2), "zero.stage=2"]
    rows, output = run("torchrun", "dpo", words, tmp_path / "run")
    assert "2 processes (backend gloo), ZeRO stage 2" in output
    assert_equal(rows, in_one_process("dpo", "full", pairs_file))


@pytest.mark.parametrize("stage", ["2", "3"])
def test_the_reference_of_an_sft_adapter_is_the_sft_model(tiny_model, pairs_file, tmp_path, stage):
    sft, one, two = (tmp_path / name for name in ("sft", "one", "two"))
    run("python", "sft", [*settings(tiny_model, pairs_file, sft, per_process=4), LORA, "trainer.learning_rate=1e-2"], sft)
    expected, output = run("python", "dpo", settings(str(sft), pairs_file, one, per_process=4), one)
    assert "as its run saved it" in output
    words = [*settings(str(sft), pairs_file, two, per_process=2), *STAGES[stage]]
    rows, output = run("deepspeed", "dpo", words, two)
    assert "as its run saved it" in output
    assert_equal(rows, expected)
    assert not (two / "model" / "ref").exists()

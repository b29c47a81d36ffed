"""Health: what is NaN or infinite stops the run within the step, and nothing of it is saved."""

from __future__ import annotations

import json

import pytest

from align.errors import NumericalError
from align.recipes.dpo import DPORecipe
from align.recipes.sft import SFTRecipe
from align.store.records import read_json
from align.training.loop.checkpoints import Checkpoints
from tests.recipes.faulty import faulty

LORA = "lora={r: 4, lora_alpha: 8, target_modules: all-linear}"
ACCUMULATED = [
    "trainer.per_device_train_batch_size=2",
    "trainer.gradient_accumulation_steps=2",
    "trainer.save_strategy=steps",
    "trainer.save_steps=2",
]
METHODS = {"sft": (SFTRecipe, []), "dpo": (DPORecipe, []), "dpo_lora": (DPORecipe, [LORA])}
FOUND = {"loss": "the loss", "gradient": "a gradient", "weight": "a weight"}


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("fault", FOUND)
@pytest.mark.parametrize("method", METHODS)
def test_nan_ends_with_6_names_the_rows_of_the_step_and_saves_nothing(words, tmp_path, pairs_file, method, fault):
    recipe_class, more = METHODS[method]
    recipe = faulty(recipe_class, fault, 3).from_file(None, *words, *ACCUMULATED, *more)
    with pytest.raises(NumericalError, match=f"step 3: {FOUND[fault]} is NaN or infinite"):
        recipe.run()
    run = tmp_path / "run"
    assert read_json(run / "exit.json")["code"] == 6
    assert not (run / "model").exists()
    bad = read_json(run / "bad_step.json")
    assert len(recipe.questions) == 4
    assert (bad["step"], bad["rows"]) == (3, [f"{pairs_file}:{number + 1}" for number in recipe.questions])
    assert bad["rows_with_bad_loss"] == (bad["rows"] if fault == "loss" else [])
    checkpoints = run / "checkpoints"
    assert [path.name for path in checkpoints.iterdir()] == ["checkpoint-2"]
    assert Checkpoints(checkpoints).newest().step == 2
    logged = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert logged == [1, 2]


def test_the_same_command_goes_on_from_the_checkpoint_before(words, tmp_path):
    with pytest.raises(NumericalError):
        faulty(DPORecipe, "loss", 3).from_file(None, *words, *ACCUMULATED).run()
    before = contents(tmp_path / "run" / "checkpoints" / "checkpoint-2")
    result = DPORecipe.from_file(None, *words, *ACCUMULATED, "trainer.save_total_limit=5").run()
    assert result["steps"] == 4 and result["weights_are_finite"]
    assert contents(tmp_path / "run" / "checkpoints" / "checkpoint-2") == before


def test_a_learning_rate_that_makes_weights_infinite_stops_the_run(words, tmp_path):
    with pytest.raises(NumericalError, match=r"step [12]: .* is NaN or infinite"):
        DPORecipe.from_file(None, *words, "trainer={learning_rate: 1e38, max_steps: 12, adam_beta1: 0.0}").run()
    assert not (tmp_path / "run" / "model").exists()


def test_packed_rows_are_not_named_at_all(words, tmp_path):
    packed = ["trainer={packing: true, packing_strategy: wrapped, max_length: 64, max_steps: 2}"]
    with pytest.raises(NumericalError, match="rows cannot be named, since they are packed together"):
        faulty(SFTRecipe, "loss", 2).from_file(None, *words, *packed).run()
    assert read_json(tmp_path / "run" / "bad_step.json")["rows"] == []


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_row_numbers_survive_evaluation(words, pairs_file, method):
    recipe = METHODS[method][0].from_file(None, *words, f"eval_data={pairs_file}", "trainer.max_steps=5")
    assert recipe.run()["steps"] == 5


def test_row_numbers_survive_a_precomputed_reference(words, tmp_path, pairs_file):
    precomputed = [*ACCUMULATED, "trainer.precompute_ref_log_probs=true"]
    recipe = faulty(DPORecipe, "loss", 2).from_file(None, *words, *precomputed)
    with pytest.raises(NumericalError):
        recipe.run()
    rows = read_json(tmp_path / "run" / "bad_step.json")["rows"]
    assert rows == [f"{pairs_file}:{number + 1}" for number in recipe.questions]

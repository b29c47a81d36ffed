"""DPO: what must hold for every run, on a two-layer model in float32."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from align.data.files.rows import write_rows
from align.errors import ConfigError, DataError, RefusedError
from align.recipes.dpo import DPORecipe
from align.recipes.sft import SFTRecipe
from align.store.records import read_json
from tests.recipes.conftest import pair

LORA = "lora={r: 4, lora_alpha: 8, target_modules: all-linear}"


class KeptRecipe(DPORecipe):
    """Keeps the trainer, so that a test can look at it afterwards."""

    trainer: Any = None

    def check(self, trainer):
        self.trainer = trainer
        return super().check(trainer)


def run(recipe_class, words, *more):
    recipe = recipe_class.from_file(None, *words, *more)
    return recipe, recipe.run()


def metrics(folder: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    return {
        name: tensor
        for file in sorted((folder / "model").glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


@pytest.mark.parametrize("more", [[], [LORA]], ids=["full", "lora"])
def test_the_first_loss_is_log_2(words, tmp_path, more):
    run(DPORecipe, words, *more)
    assert metrics(tmp_path / "run")[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)


def test_training_lowers_the_loss_and_moves_the_weights(words, tmp_path):
    _, result = run(DPORecipe, words, "trainer.max_steps=8")
    losses = [row["loss"] for row in metrics(tmp_path / "run") if "loss" in row]
    assert losses[-1] < losses[0] - 0.05
    assert result["share_of_trainable_weights_moved"] > 0.95
    assert result["weights_are_finite"]


def test_lora_leaves_every_base_weight_bit_identical(words, tiny_model):
    recipe, result = run(KeptRecipe, words, LORA)
    before = load_file(Path(tiny_model) / "model.safetensors")
    after = {n.replace(".base_layer", ""): p for n, p in recipe.trainer.model.base_model.model.named_parameters()}
    compared = [name for name in before if name in after]
    assert len(compared) >= len(before) - 1  # a tied head is one tensor under two names
    assert all(torch.equal(before[name], after[name].data) for name in compared)
    assert result["frozen_weights_moved"] == 0


def test_the_same_seed_twice_gives_the_same_weights(words, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        run(DPORecipe, words, LORA, f"output_dir={folder}")
    one, two = final_weights(first), final_weights(second)
    assert one.keys() == two.keys() and one
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_another_seed_gives_other_weights(words, tmp_path):
    for seed in (1, 2):
        run(DPORecipe, words, LORA, f"output_dir={tmp_path / str(seed)}", f"trainer.seed={seed}")
    one, two = final_weights(tmp_path / "1"), final_weights(tmp_path / "2")
    assert not all(torch.equal(one[name], two[name]) for name in one)


def test_full_training_in_bfloat16_keeps_float32_weights(words, tmp_path):
    _, result = run(DPORecipe, words, "compute=bfloat16", "trainer.learning_rate=1e-6")
    assert {tensor.dtype for tensor in final_weights(tmp_path / "run").values()} == {torch.float32}
    assert result["share_of_trainable_weights_moved"] > 0.9
    assert result["reference_difference_per_token"] <= 1e-5


def test_lora_in_bfloat16_has_a_bfloat16_base_and_float32_adapters(words):
    recipe, result = run(KeptRecipe, words, LORA, "compute=bfloat16")
    dtypes = {(p.requires_grad, p.dtype) for p in recipe.trainer.model.parameters()}
    assert dtypes == {(True, torch.float32), (False, torch.bfloat16)}
    assert result["reference_difference_per_token"] == 0


def test_a_reference_that_is_not_the_policy_is_refused_before_the_first_step(words, tmp_path):
    class WrongReference(DPORecipe):
        def build_trainer(self):
            trainer = super().build_trainer()
            with torch.no_grad():
                next(trainer.ref_model.parameters()).mul_(1.01)
            return trainer

    with pytest.raises(RefusedError, match="reference: auto must start as the policy"):
        run(WrongReference, words)
    assert read_json(tmp_path / "run" / "exit.json")["code"] == 8
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_an_adapter_that_does_not_start_at_zero_is_refused(words):
    with pytest.raises(RefusedError, match="differ by"):
        run(DPORecipe, words, "lora={r: 4, target_modules: all-linear, init_lora_weights: false}")


def test_dpo_from_an_sft_adapter_starts_at_log_2_with_the_adapter_as_reference(words, tmp_path):
    run(SFTRecipe, words, LORA, f"output_dir={tmp_path / 'sft'}")
    _, result = run(DPORecipe, words, f"model={tmp_path / 'sft'}")
    assert metrics(tmp_path / "run")[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert "a frozen copy of the adapter" in result["reference"]
    assert result["reference_difference_per_token"] == 0
    assert set(final_weights(tmp_path / "run")) == set(final_weights(tmp_path / "sft"))


def test_a_named_reference_is_used_and_not_held_to_the_policy(words, tmp_path):
    run(SFTRecipe, words, f"output_dir={tmp_path / 'sft'}")
    _, result = run(DPORecipe, words, f"reference={tmp_path / 'sft'}")
    assert result["reference"] == str(tmp_path / "sft")
    assert metrics(tmp_path / "run")[0]["loss"] != pytest.approx(math.log(2), abs=1e-4)


def test_rows_that_are_too_long_are_refused_by_name(words, tmp_path):
    write_rows(tmp_path / "pairs.jsonl", [*(pair(n) for n in range(8)), pair(9, chosen="long " * 100)])
    with pytest.raises(
        DataError, match=r"1 of 9 rows are longer than trainer.max_length=128 tokens: .*pairs.jsonl:9 \("
    ):
        run(DPORecipe, words, "trainer.max_length=128")


def test_rows_that_are_too_long_can_be_dropped_and_are_counted(words, tmp_path):
    write_rows(tmp_path / "pairs.jsonl", [*(pair(n) for n in range(8)), pair(9, chosen="long " * 100)])
    _, result = run(DPORecipe, words, "trainer.max_length=128", "data.on_bad_rows=drop")
    assert (result["rows"], result["rows_too_long"]) == (8, 1)


def test_bad_rows_end_with_exit_code_3_and_can_be_dropped(words, pairs_file, capsys):
    with Path(pairs_file).open("a") as file:
        file.write('{"prompt": []}\n')
    assert DPORecipe.main(words) == 3
    assert f"{pairs_file}:17: " in capsys.readouterr().err
    assert DPORecipe.main([*words, "data.on_bad_rows=drop"]) == 0


def test_a_finished_run_says_so_and_does_nothing(words, tmp_path, capsys):
    run(DPORecipe, words)
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    assert DPORecipe.main(words) == 0
    assert "already finished" in capsys.readouterr().out
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_another_run_does_not_overwrite_a_finished_one(words):
    run(DPORecipe, words)
    with pytest.raises(ConfigError, match="another run finished here"):
        run(DPORecipe, words, "trainer.learning_rate=1e-4")


def test_the_run_folder_tells_what_was_done(words, tmp_path, pairs_file):
    run(DPORecipe, words, LORA)
    folder = tmp_path / "run"
    assert read_json(folder / "exit.json") == {"code": 0, "message": "done", "attempt": 1}
    assert f"train_data: {pairs_file}" in (folder / "config.yaml").read_text()
    card = (folder / "README.md").read_text()
    assert "share of trainable weights moved" in card and read_json(folder / "run.json")["command"] in card
    assert {"loss", "rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected"} <= metrics(folder)[
        0
    ].keys()
    again = DPORecipe.from_file(str(folder / "config.yaml"))
    assert again.settings.lora == {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}


def test_sft_alone_has_no_reference_to_check(words):
    _, result = run(DPORecipe, words, "trainer.loss_type=sft")
    assert result["reference"] == "none"

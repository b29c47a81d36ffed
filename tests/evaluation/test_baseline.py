"""Baseline: what a run in `compare.sft` is called, and what keeps it from being a control."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from align.errors import ConfigError
from align.evaluation.baseline import Baseline, TrainedRun, arm_names, flaws
from align.store.records import write_json

TAKEN = ("base", "base + instruction")
IDENTITY = {
    "settings": {"model": "tiny", "train_data": "data/pairs.jsonl"},
    "data": {"train": "a" * 64},
    "model": {"weights": "w", "adapter": None},
    "tokenizer": "t",
    "template": "c",
}
RESULT = {"rows": 100, "learned_tokens_seen": 1200}


def trained(recipe: str, folder: str = "", result=RESULT, **identity) -> TrainedRun:
    return TrainedRun(Path(folder or f"runs/{recipe}"), recipe, {**IDENTITY, **identity}, result)


@pytest.mark.parametrize(
    ("recipe", "method"),
    [("DPORecipe", "DPO"), ("GRPORecipe", "GRPO"), ("SFTRecipe", "SFT"), ("Mine", "Mine"), ("my.module.Mine", "Mine")],
)
def test_a_run_is_called_by_its_own_method(recipe, method):
    assert trained(recipe).method == method
    assert arm_names([trained(recipe)], TAKEN) == [method]


def test_runs_of_one_method_are_told_apart_by_their_folders():
    assert arm_names([trained("DPORecipe"), trained("GRPORecipe")], TAKEN) == ["DPO", "GRPO"]
    assert arm_names([trained("SFTRecipe", "runs/a"), trained("SFTRecipe", "runs/b")], TAKEN) == ["SFT a", "SFT b"]
    found = arm_names([trained("SFTRecipe", "one/x"), trained("SFTRecipe", "two/x")], TAKEN)
    assert found == ["SFT one/x", "SFT two/x"]


def test_no_run_takes_the_name_of_base():
    assert arm_names([trained("base", "runs/mine")], TAKEN) == ["base mine"]


def test_a_run_is_not_its_own_baseline(tmp_path):
    (tmp_path / "x").mkdir()
    runs = [trained("DPORecipe", str(tmp_path / "x")), trained("DPORecipe", f"{tmp_path}/x/../x")]
    with pytest.raises(ConfigError, match=r"compare\.sft: must be the folder of another run, but .* is the run itself"):
        arm_names(runs, TAKEN)


def test_sft_on_the_same_tokens_from_the_same_model_has_no_flaw():
    assert flaws(trained("DPORecipe"), trained("SFTRecipe")) == []


@pytest.mark.parametrize(
    ("baseline", "said"),
    [
        (
            trained("SFTRecipe", data={"train": "b" * 64}),
            "it was trained on data/pairs.jsonl (sha256 bbbbbbbbbbbb), not on data/pairs.jsonl (sha256 aaaaaaaaaaaa)",
        ),
        (trained("SFTRecipe", model={"weights": "w", "adapter": "sft"}), "it started from another model (tiny, not"),
        (trained("SFTRecipe", tokenizer="other"), "it started from another tokenizer"),
        (trained("SFTRecipe", template=None), "it started from another chat template"),
        (trained("SFTRecipe", result={**RESULT, "rows": 99}), "it had 99 rows to learn from, not 100"),
        (
            trained("SFTRecipe", result={**RESULT, "learned_tokens_seen": 2400}),
            "it learned 2,400 chosen tokens, not 1,200",
        ),
        (trained("SFTRecipe", result={"rows": 100}), "it learned an unknown number of chosen tokens, not 1,200"),
    ],
)
def test_whatever_differs_is_the_one_flaw_and_is_named(baseline, said):
    (flaw,) = flaws(trained("DPORecipe"), baseline)
    assert flaw.startswith(said)


def test_an_equal_count_of_another_files_tokens_is_no_control():
    assert flaws(trained("DPORecipe"), trained("SFTRecipe", data={"train": "b" * 64}))


@pytest.mark.parametrize("recipe", ["DPORecipe", "GRPORecipe", "MySFTRecipe"])
def test_a_run_of_another_recipe_is_no_control(recipe):
    (flaw,) = flaws(trained("DPORecipe", "runs/mine"), trained(recipe))
    assert flaw.startswith(f"its recipe is {recipe}, ")
    assert flaw.endswith("name a run of `align train sft` in compare.sft")


def test_a_run_that_imitates_or_learns_no_chosen_tokens_has_no_control():
    assert flaws(trained("SFTRecipe", "runs/mine"), trained("SFTRecipe")) == ["the run that is judged imitates, too"]
    grpo = trained("GRPORecipe", result={"rows": 100})
    assert flaws(grpo, trained("SFTRecipe")) == ["the run that is judged learned from no chosen tokens"]
    assert flaws(grpo, trained("SFTRecipe", result={"rows": 100})), "two missing counts are not equal counts"


@pytest.mark.parametrize("whose", [0, 1])
def test_a_best_checkpoint_learned_another_number_of_tokens_than_its_run_counted(whose):
    runs = [trained("DPORecipe"), trained("SFTRecipe")]
    runs[whose].identity["settings"] = {**runs[whose].identity["settings"], "trainer": {"load_best_model_at_end": True}}
    (flaw,) = flaws(*runs)
    assert "is its run's best checkpoint" in flaw


def test_all_flaws_stand_in_one_sentence():
    said = Baseline("SFT", ["one", "two"]).shortcoming
    assert said == "a lead over SFT would not show that more than imitation helped: one; two"


def test_a_run_is_read_from_its_records(tmp_path):
    write_json(tmp_path / "run.json", {"identity_of": {**IDENTITY, "recipe": "SFTRecipe"}})
    write_json(tmp_path / "result.json", RESULT)
    write_json(tmp_path / "exit.json", {"code": 0})
    run = TrainedRun.read(tmp_path)
    assert (run.method, run.is_sft, run.learned_tokens) == ("SFT", True, 1200)
    (tmp_path / "exit.json").write_text(json.dumps({"code": 75}))
    with pytest.raises(ConfigError, match="must be the folder of a finished run, but ended with exit code 75"):
        TrainedRun.read(tmp_path)

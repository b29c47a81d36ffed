"""ZeRO settings: what is refused before anything is started."""

from __future__ import annotations

import pytest

from align.errors import ConfigError
from align.recipes.dpo import DPORecipe
from align.training.loop.zero import deepspeed_config


def test_zero_without_a_launcher_prints_the_command_with_one(words, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ConfigError, match=r"zero: needs a launcher.*\n  deepspeed --num_gpus 1 --module "):
        DPORecipe.from_file(None, *words, "zero.stage=2").run()


@pytest.mark.parametrize(
    ("zero", "message"),
    [
        ("{stage: 0, offload: optimizer}", "zero.offload: optimizer needs stage 1, 2 or 3"),
        ("{stage: 2, offload: all}", "zero.offload: all needs stage 3"),
        ("{stage: 4}", "must be 0, 1, 2 or 3"),
        ("{stag: 2}", "did you mean stage"),
        ("missing.json", "there is no file 'missing.json'"),
    ],
)
def test_a_wrong_zero_section_is_refused_by_name(words, zero, message):
    with pytest.raises(ConfigError) as refused:
        DPORecipe.from_file(None, *words, f"zero={zero}")
    assert message in str(refused.value)


def test_offload_all_moves_weights_and_optimizer(words):
    config = deepspeed_config(3, "all", in_bfloat16=True)["zero_optimization"]
    assert config["offload_optimizer"] == config["offload_param"] == {"device": "cpu"}


@pytest.mark.parametrize("name", ["deepspeed", "resume_from_checkpoint", "save_only_model", "auto_find_batch_size"])
def test_arguments_that_the_recipe_owns_are_refused_with_what_to_do(words, name):
    with pytest.raises(ConfigError, match=rf"trainer.{name} is refused: "):
        DPORecipe.from_file(None, *words, f"trainer.{name}=x")

"""SFT: the chosen side of pairs, or demonstrations, and only the completion is learned."""

from __future__ import annotations

from align.data.files.rows import write_rows
from align.data.rows.pair import Demonstration, Message
from align.recipes.dpo import DPORecipe
from align.recipes.sft import SFTRecipe
from tests.recipes.test_dpo import LORA, metrics, run


def test_sft_learns_the_chosen_side_of_pairs(words, tmp_path):
    _, result = run(SFTRecipe, words, LORA, "trainer.max_steps=12")
    losses = [row["loss"] for row in metrics(tmp_path / "run") if "loss" in row]
    assert losses[-1] < losses[0]
    assert result["rows"] == 16


def test_sft_takes_demonstrations(words, tmp_path):
    rows = [Demonstration((Message("user", f"q {n}"),), (Message("assistant", f"a {n}"),), {}) for n in range(8)]
    write_rows(tmp_path / "pairs.jsonl", rows)
    _, result = run(SFTRecipe, words)
    assert result["rows"] == 8


def test_sft_and_dpo_count_the_same_chosen_tokens(words, tmp_path):
    _, sft = run(SFTRecipe, words, f"output_dir={tmp_path / 'sft'}")
    _, dpo = run(DPORecipe, words)
    assert sft["learned_tokens_seen"] == dpo["learned_tokens_seen"] > 0

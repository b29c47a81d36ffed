"""Forward choice: the tree where prompts weigh, padded rows where they do not, and the reason beside it."""

from __future__ import annotations

import pytest

from align.errors import ConfigError
from align.training.step.choice import choose_forward, padded_operations, tree_operations
from align.training.step.verified import Machine, record
from tests.training import trees

CONFIG = trees.config("Llama")
CPU, L4 = Machine("cpu", "cpu"), Machine("cuda", "NVIDIA L4", "8.9")
LONG_PROMPTS = [(512, [128, 128])] * 3


def test_long_prompts_are_encoded_once():
    choice = choose_forward(LONG_PROMPTS, CONFIG, machine=CPU)
    assert choice.forward == "tree"
    assert str(choice).startswith("forward: tree (1,536 prompt and 768 completion tokens: padded rows would take 1.")


def test_where_completions_dwarf_prompts_rows_are_padded():
    choice = choose_forward([(32, [512, 512])], CONFIG)
    assert choice.forward == "padded"
    assert "and below 1.05 nothing is gained" in str(choice)


def test_four_short_completions_of_one_prompt_are_a_tree():
    four, two = (choose_forward([(256, [64] * number)], CONFIG, machine=CPU) for number in (4, 2))
    assert four.gain > two.gain > 1.2


def test_padding_to_the_longest_of_a_batch_counts():
    ragged = [(100, [20, 400]), (300, [10, 10])]
    alone = padded_operations(ragged, CONFIG)
    assert padded_operations(ragged, CONFIG, groups_per_batch=2) > alone > tree_operations(ragged, CONFIG)


def test_one_completion_a_prompt_gains_nothing():
    lengths = [(50, [50])]
    assert padded_operations(lengths, CONFIG) == pytest.approx(tree_operations(lengths, CONFIG))


def test_a_model_that_does_not_fit_runs_padded_and_says_why():
    choice = choose_forward([(512, [128, 128])], trees.config("Mistral", sliding_window=64))
    assert str(choice) == "forward: padded (its attention slides over a window of 64 tokens)"


def test_what_is_set_is_done():
    assert str(choose_forward([(512, [128, 128])], CONFIG, "padded")) == "forward: padded (as set)"
    assert str(choose_forward([(32, [512, 512])], CONFIG, "tree")) == "forward: tree (as set)"


def test_a_tree_that_was_set_and_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="must be padded or auto for this model, but is tree: its attention slides"):
        choose_forward([(9, [9, 9])], trees.config("Mistral", sliding_window=64), "tree")


def test_on_cuda_a_tree_that_was_not_verified_is_not_taken_by_itself(tmp_path):
    choice = choose_forward(LONG_PROMPTS, CONFIG, machine=L4, model="my/model", records=tmp_path)
    assert str(choice).startswith("forward: padded (the tree has not been verified on NVIDIA L4 with torch ")
    assert str(choice).endswith("in bfloat16; run `align verify my/model --compute bfloat16`)")


def test_on_cuda_a_record_unlocks_the_tree_in_its_own_arithmetic(tmp_path):
    record(CONFIG, L4, "bfloat16", {}, tmp_path)
    assert choose_forward(LONG_PROMPTS, CONFIG, machine=L4, records=tmp_path).forward == "tree"
    assert choose_forward(LONG_PROMPTS, CONFIG, machine=L4, compute="float32", records=tmp_path).forward == "padded"


def test_on_cuda_a_shipped_record_unlocks_the_tree_for_the_same_facts_and_no_other(tmp_path):
    own, shipped = tmp_path / "own", tmp_path / "shipped"
    record(CONFIG, L4, "bfloat16", {}, shipped)

    def chosen(config=CONFIG, machine=L4, compute="bfloat16"):
        folders = {"records": own, "shipped": shipped}
        return choose_forward(LONG_PROMPTS, config, machine=machine, compute=compute, **folders).forward

    assert chosen() == "tree"
    assert chosen(machine=Machine("cuda", "NVIDIA L4", "9.0")) == "padded"
    assert chosen(machine=Machine("cuda", "NVIDIA L40", "8.9")) == "padded"
    assert chosen(compute="float32") == "padded"
    assert chosen(config=trees.config("Qwen2")) == "padded"
    assert chosen(config=trees.config("Llama", num_key_value_heads=4)) == "padded"


def test_on_cuda_a_tree_that_was_set_needs_no_record(tmp_path):
    assert str(choose_forward(LONG_PROMPTS, CONFIG, "tree", machine=L4, records=tmp_path)) == "forward: tree (as set)"


def test_on_a_cpu_no_record_is_needed(tmp_path):
    assert choose_forward(LONG_PROMPTS, CONFIG, machine=CPU, records=tmp_path).forward == "tree"

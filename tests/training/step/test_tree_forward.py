"""Tree log-probs: equal to padded rows in loss and gradient, whatever the model, the type and the route."""

from __future__ import annotations

import copy
import json

import peft
import pytest
import torch
from trl.trainer.utils import add_fused_lm_head

from align.errors import ConfigError
from align.training.step.cpu_head import score_completions_only
from align.training.step.tree_forward import completion_logps, score_trees, tree_forward
from align.tree.attention import NAME
from align.tree.dense import dense_attention
from align.tree.grouped import grouped_attention
from align.tree.layout import TokenGroup, plan_tree
from align.tree.support import PROVEN
from align.tree.varlen import emulated_varlen_attention
from tests.training import trees
from tests.training.trees import group

# peft 0.21 asks transformers by the name that it used before 5.23
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

ROUTES = {
    "grouped": grouped_attention,
    "varlen": emulated_varlen_attention,
    "dense": dense_attention,
}
RAGGED = [group(17, 9, 13), group(5, 20, 1), group(31, 2, 2)]
GROUPS = {
    "ragged pairs": RAGGED,
    "a prompt of one token": [group(1, 6, 3), group(1, 1, 1)],
    "groups of eight": [group(12, 5, 9, 2, 7, 7, 1, 11, 4), group(3, 1, 2, 3, 4, 5, 6, 7, 8)],
    "completions longer than a block": [group(7, 150, 131), group(140, 129, 3)],
}
LOSS, GRADIENT = 1e-5, 5e-6
"""What float32 may differ by: the loss absolutely, the gradient as a vector relatively."""


def differences(model, groups, route=None, padded=None):
    """(Of the loss, of the gradient relatively) between a tree and padded rows through an untouched copy."""
    padded = padded or copy.deepcopy(model)
    expected = trees.preference_loss(trees.padded_logps(padded, groups), groups)
    expected_gradient = trees.gradients(padded, expected)
    score_trees(model)
    plan = plan_tree(groups)
    found = trees.preference_loss(plan.sums(completion_logps(model, plan, route)), groups)
    gradient = trees.relative(trees.gradients(model, found), expected_gradient)
    return abs(float(found.detach()) - float(expected.detach())), gradient


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("kind", GROUPS)
@pytest.mark.parametrize("name", trees.SHAPES)
def test_loss_and_gradient_equal_padded_rows(name, kind, route):
    loss, gradient = differences(trees.model(name), GROUPS[kind], ROUTES[route])
    assert loss <= LOSS and gradient <= GRADIENT, (loss, gradient)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", [*trees.SHAPES, "Starcoder2"])
def test_in_float64_they_are_equal_to_the_last_digits(name, route):
    model = trees.model(name, torch.float64)
    loss, gradient = differences(model, GROUPS["ragged pairs"] + GROUPS["a prompt of one token"], ROUTES[route])
    allowed = 1e-12 if name == "Starcoder2" else 2e-7  # the others normalise in float32, whatever their weights are
    assert loss <= 1e-12 and gradient <= allowed, (loss, gradient)


@pytest.mark.parametrize("name", trees.OTHERS)
def test_every_model_type_called_proven_is_equal_too(name):
    loss, gradient = differences(trees.model(name), RAGGED)
    assert loss <= LOSS and gradient <= GRADIENT, (loss, gradient)


def test_no_model_type_is_called_proven_without_a_test():
    assert {trees.config(name).model_type for name in trees.SHAPES | trees.OTHERS} == set(PROVEN)


def test_a_completion_that_saw_its_sibling_would_be_noticed():
    groups = GROUPS["ragged pairs"]
    model = trees.model("Llama")
    expected = trees.padded_logps(model, groups)
    score_trees(model)
    plan = plan_tree(groups)
    as_one = plan_tree([TokenGroup(each.prompt, [[*each.completions[0], *each.completions[1]]]) for each in groups])
    seen = plan.sums(completion_logps(model, plan, lambda *given: dense_attention(*given[:3], as_one, given[4])))
    assert float((seen - expected).detach().abs().max()) > 0.1
    assert float((plan.sums(completion_logps(model, plan)) - expected).detach().abs().max()) < 1e-4


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("name", trees.SHAPES)
def test_activation_checkpointing_finds_the_plan_again(name, use_reentrant):
    model, padded = trees.model(name), trees.model(name)
    model.activation_checkpointing_enable({"use_reentrant": use_reentrant})
    model.enable_input_require_grads()
    calls = []

    def counting(*given):
        calls.append(torch.is_grad_enabled())
        return grouped_attention(*given)

    loss, gradient = differences(model, RAGGED, counting, padded)
    assert loss <= LOSS and gradient <= GRADIENT, (loss, gradient)
    assert len(calls) == 4, "each of two layers runs again during backward"


@pytest.mark.parametrize("is_checkpointed", [False, True])
@pytest.mark.parametrize("route", ["grouped", "varlen"])
@pytest.mark.parametrize("name", trees.SHAPES)
def test_lora_is_equal_too(name, route, is_checkpointed):
    settings = peft.LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = peft.get_peft_model(trees.model(name), settings)
    padded = copy.deepcopy(model)
    if is_checkpointed:
        model.activation_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    loss, gradient = differences(model, RAGGED, ROUTES[route], padded)
    assert loss <= LOSS and gradient <= GRADIENT, (loss, gradient)


BF16_LOSS, BF16_GRADIENT = 0.02, 0.05
"""What bfloat16 may differ by; at most 0.004 and 0.03 was seen."""


@pytest.mark.parametrize("is_autocast", [False, True], ids=["bf16 weights", "autocast"])
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", trees.SHAPES)
def test_in_bfloat16_they_differ_by_its_rounding_alone(name, route, is_autocast):
    model = trees.model(name, torch.float32 if is_autocast else torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_autocast):
        loss, gradient = differences(model, RAGGED, ROUTES[route])
    assert loss <= BF16_LOSS and gradient <= BF16_GRADIENT, (loss, gradient)


def left_padded():
    ids = torch.randint(3, trees.VOCABULARY, (3, 11), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, :5] = mask[2, :8] = 0
    return {"input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask}


@pytest.mark.parametrize("name", trees.SHAPES)
def test_left_padded_rows_are_computed_bit_for_bit_as_before(name):
    model = trees.model(name).eval()
    before = model(**left_padded()).logits
    score_trees(model)
    completion_logps(model, plan_tree(RAGGED))
    assert torch.equal(model(**left_padded()).logits, before)


@pytest.mark.parametrize("name", trees.SHAPES)
def test_gradients_of_padded_rows_are_computed_bit_for_bit_as_before(name):
    model = trees.model(name)
    before = trees.gradients(model, trees.padded_logps(model, RAGGED).sum())
    score_trees(model)
    assert torch.equal(trees.gradients(model, trees.padded_logps(model, RAGGED).sum()), before)


@pytest.mark.parametrize("name", trees.SHAPES)
def test_generation_is_the_same_bit_for_bit(name):
    model = trees.model(name).eval()
    settings = {"max_new_tokens": 8, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    before = model.generate(**left_padded(), **settings)
    score_trees(model)
    after = model.generate(**left_padded(), **settings)
    assert torch.equal(after.sequences, before.sequences)
    assert all(torch.equal(one, other) for one, other in zip(after.logits, before.logits, strict=True))


def test_what_is_saved_does_not_name_the_attention(tmp_path):
    model = trees.model("Llama")
    score_trees(model)
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert NAME not in json.dumps(saved)
    assert type(model).from_pretrained(tmp_path).config._attn_implementation == "sdpa"


def test_each_prompt_is_encoded_once_and_only_completion_tokens_reach_the_head():
    model = trees.model("Llama")
    seen = {}
    model.model.layers[0].register_forward_pre_hook(lambda _, args: seen.update(layer=args[0].shape))
    model.get_output_embeddings().register_forward_pre_hook(lambda _, args: seen.update(head=args[0].shape))
    score_trees(model, vocabulary_chunk=None)
    completion_logps(model, plan_tree(RAGGED))
    assert seen == {"layer": (1, 17 + 9 + 13 + 5 + 20 + 1 + 31 + 2 + 2, 32), "head": (9 + 13 + 20 + 1 + 2 + 2, 32)}


FIELDS = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")


@pytest.mark.parametrize("vocabulary_chunk", [32_768, 7, None])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_every_field_equals_trls(vocabulary_chunk, temperature):
    theirs, ours = trees.model("Qwen2"), trees.model("Qwen2")
    for model in (theirs, ours):
        add_fused_lm_head(model, outputs=FIELDS, temperature=temperature)
    assert score_completions_only(ours, FIELDS, temperature)
    score_trees(ours, temperature, vocabulary_chunk)
    one = group(6, 5)
    ids = torch.tensor([[*one.prompt, *one.completions[0]]])
    labels = ids.masked_fill(torch.arange(11) < 6, -100)
    expected = theirs(input_ids=ids, labels=labels, fused_lm_head=True, use_cache=False)
    found = tree_forward(ours, plan_tree([one]), outputs=FIELDS)
    for name in FIELDS:
        torch.testing.assert_close(getattr(found, name), getattr(expected, name)[0, 5:], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.loss, expected.loss)
    padded = ours(input_ids=ids, labels=labels, fused_lm_head=True, use_cache=False)
    torch.testing.assert_close(padded.log_probs, expected.log_probs)


def test_a_model_that_the_tree_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match=r"must be padded or auto .*: its attention slides over a window of 64 tok"):
        score_trees(trees.model("Mistral", sliding_window=64))


def test_an_adapter_that_puts_tokens_before_each_row_is_refused():
    settings = peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")
    with pytest.raises(ConfigError, match=r"its adapter .* puts learned tokens before each row"):
        score_trees(peft.get_peft_model(trees.model("Llama"), settings))

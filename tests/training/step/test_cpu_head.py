"""Log-probs: scoring completion positions only changes the work, not the numbers."""

from __future__ import annotations

import copy

import pytest
import torch
from trl.trainer.utils import add_fused_lm_head

from align.models.load import load_model
from align.training.step.cpu_head import score_completions_only, spare_head_copies

OUTPUTS = ("log_probs", "entropy", "mean_logits", "is_top1", "log_sum_sq_probs")


@pytest.fixture
def both(tiny_model):
    """The same model twice: TRL's own route, and ours."""
    theirs = load_model(tiny_model)
    ours = copy.deepcopy(theirs)
    for model in (theirs, ours):
        add_fused_lm_head(model, outputs=OUTPUTS)
    assert score_completions_only(ours, OUTPUTS)
    return theirs, ours


def batch():
    ids = torch.randint(0, 200, (3, 17), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 12:] = 0
    labels = ids.clone()
    labels[:, :9] = -100
    labels[1, 12:] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def test_every_field_equals_trls(both):
    theirs, ours = (model(**batch(), fused_lm_head=True, use_cache=False) for model in both)
    assert torch.equal(theirs.label_mask, ours.label_mask)
    assert torch.equal(theirs.is_top1 & theirs.label_mask, ours.is_top1 & ours.label_mask)
    for name in ("loss", "log_probs", "entropy", "mean_logits", "log_sum_sq_probs"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-5, atol=1e-5)


def test_gradients_equal_trls(both):
    for model in both:
        model(**batch(), fused_lm_head=True, use_cache=False).log_probs.sum().backward()
    for one, other in zip(both[0].parameters(), both[1].parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_the_number_of_items_is_honoured(both):
    theirs, ours = (model(**batch(), fused_lm_head=True, num_items_in_batch=7).loss for model in both)
    torch.testing.assert_close(ours, theirs)


def test_a_plain_forward_is_untouched(both):
    theirs, ours = (model(**batch()) for model in both)
    assert torch.equal(theirs.logits, ours.logits) and torch.equal(theirs.loss, ours.loss)


def test_a_model_with_altered_logits_stays_on_trls_route(tiny_model):
    model = load_model(tiny_model)
    model.config.final_logit_softcapping = 30.0
    add_fused_lm_head(model, outputs=OUTPUTS)
    before = model.forward
    assert not score_completions_only(model, OUTPUTS)
    assert model.forward == before


def test_a_temperature_divides_the_logits_as_in_trl(tiny_model):
    theirs = load_model(tiny_model)
    ours = copy.deepcopy(theirs)
    for model in (theirs, ours):
        add_fused_lm_head(model, outputs=("log_probs", "entropy"), temperature=0.7)
    assert score_completions_only(ours, ("log_probs", "entropy"), 0.7)
    theirs, ours = (model(**batch(), fused_lm_head=True, use_cache=False) for model in (theirs, ours))
    for name in ("log_probs", "entropy"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-5, atol=1e-5)


def test_the_head_gets_its_input_in_one_piece_and_answers_the_same(tiny_model):
    model = load_model(tiny_model)
    seen = []
    ids = batch()["input_ids"]
    before = model(input_ids=ids, logits_to_keep=1).logits
    spare_head_copies(model)
    model.get_output_embeddings().register_forward_pre_hook(lambda head, inputs: seen.append(inputs[0]))
    torch.testing.assert_close(model(input_ids=ids, logits_to_keep=1).logits, before)
    assert [one.is_contiguous() and one.stride() == (64, 64, 1) for one in seen] == [True]

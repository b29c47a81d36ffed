"""Losses: golden values to 1e-12, gradients, and what each loss must do whatever the numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from align.errors import ConfigError, DataError
from align.training.loss import with_reference as losses
from align.training.loss.pairs import PairLogps
from align.training.loss.without_reference import cpo, orpo, sft, simpo
from align.training.verify.losses import AGAINST_REFERENCE, WITHOUT_REFERENCE, exchanged
from tests.training.loss import golden_losses
from tests.training.loss.pairs_of_logps import GOLDEN, golden_pairs, random_pairs

EVERY = {
    **{name: lambda pairs, f=f: f(pairs, 0.1) for name, f in AGAINST_REFERENCE.items()},
    **WITHOUT_REFERENCE,
    "sft": sft,
    "sigmoid with margins": lambda pairs: losses.sigmoid(pairs, 0.1, margins_B=torch.ones_like(pairs.chosen_logps_B)),
    "simpo smoothed": lambda pairs: simpo(pairs, 2.0, gamma=1.0, label_smoothing=0.2),
    "cpo smoothed": lambda pairs: cpo(pairs, 0.1, 0.2),
    "sigmoid_norm smoothed": lambda pairs: losses.sigmoid_norm(pairs, 5.0, 0.2),
}
ONLY_THE_DIFFERENCE = ["sigmoid", "cdpo_eps0.3", "robust_eps0.3", "hinge", "ipo_sum"]
"""Losses that see a and b only as a - b."""

nats = st.floats(-200, -0.01)


@st.composite
def pairs(draw):
    """One pair, float64, with gradient."""
    values = [torch.tensor([draw(nats)], dtype=torch.float64) for _ in range(4)]
    lengths = [torch.tensor([draw(st.integers(1, 300))]) for _ in range(2)]
    return PairLogps(
        chosen_logps_B=values[0].requires_grad_(),
        rejected_logps_B=values[1].requires_grad_(),
        ref_chosen_logps_B=values[2],
        ref_rejected_logps_B=values[3],
        num_chosen_tokens_B=lengths[0],
        num_rejected_tokens_B=lengths[1],
    )


def gradients(loss_B, of):
    return torch.autograd.grad(loss_B.sum(), (of.chosen_logps_B, of.rejected_logps_B))


def assert_close(left, right, tolerance=1e-12):
    torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)


def test_the_golden_file_is_what_its_formulas_give_in_50_digits():
    assert golden_losses.compute() == GOLDEN


@pytest.mark.parametrize("beta", [0.1, 0.5])
@pytest.mark.parametrize("name", AGAINST_REFERENCE)
def test_a_loss_against_a_reference_has_its_golden_value(name, beta):
    expected = torch.tensor(GOLDEN["expected"][f"beta={beta}"][name], dtype=torch.float64)
    assert_close(AGAINST_REFERENCE[name](golden_pairs(), beta), expected)


@pytest.mark.parametrize("name", WITHOUT_REFERENCE)
def test_a_loss_without_reference_has_its_golden_value(name):
    bare = replace(golden_pairs(), ref_chosen_logps_B=None, ref_rejected_logps_B=None)
    assert_close(WITHOUT_REFERENCE[name](bare), torch.tensor(GOLDEN["expected"][name], dtype=torch.float64))


@pytest.mark.parametrize("name", EVERY)
def test_the_gradient_is_that_of_finite_differences(name):
    start = random_pairs(5)

    def of(chosen_B, rejected_B):
        return EVERY[name](replace(start, chosen_logps_B=chosen_B, rejected_logps_B=rejected_B))

    assert torch.autograd.gradcheck(of, (start.chosen_logps_B, start.rejected_logps_B))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_have_the_dtype_and_the_shape_of_the_log_probs(name, dtype):
    loss_B = EVERY[name](random_pairs(3, dtype=dtype))
    assert loss_B.shape == (3,) and loss_B.dtype == dtype


@pytest.mark.parametrize("name", [name for name in EVERY if name != "sft"])
def test_a_large_lead_makes_no_loss_or_gradient_infinite(name):
    for lead in (-3000.0, 3000.0):
        far = replace(random_pairs(2), ref_chosen_logps_B=torch.full((2,), lead, dtype=torch.float64))
        loss_B = EVERY[name](far)
        assert loss_B.isfinite().all() and all(gradient.isfinite().all() for gradient in gradients(loss_B, far))


@pytest.mark.parametrize("name", ["sigmoid", "cdpo_eps0.1", "cdpo_eps0.3", "robust_eps0.3", "sigmoid_norm"])
def test_policy_equal_to_reference_starts_at_log_2(name):
    start = random_pairs(4)
    equal = replace(start, ref_chosen_logps_B=start.chosen_logps_B, ref_rejected_logps_B=start.rejected_logps_B)
    assert_close(AGAINST_REFERENCE[name](equal, 0.3), torch.full((4,), math.log(2.0), dtype=torch.float64))


@given(pairs())
@settings(max_examples=50, deadline=None)
def test_exchanging_the_sides_adds_the_logit(pair):
    logit = 0.1 * (pair.chosen_logratios_B - pair.rejected_logratios_B)
    other = exchanged(pair)
    assert_close(losses.sigmoid(pair, 0.1) - losses.sigmoid(other, 0.1), -logit, 1e-10)
    assert_close(losses.robust(pair, 0.1, 0.2) - losses.robust(other, 0.1, 0.2), -logit / (1 - 2 * 0.2), 1e-10)
    smoothed = losses.sigmoid(pair, 0.1, 0.2) - losses.sigmoid(other, 0.1, 0.2)
    assert_close(smoothed, -(1 - 2 * 0.2) * logit, 1e-10)


@given(pairs())
@settings(max_examples=50, deadline=None)
def test_label_smoothing_of_one_half_knows_no_side(pair):
    assert_close(losses.sigmoid(pair, 0.1, 0.5), losses.sigmoid(exchanged(pair), 0.1, 0.5))
    equal = replace(
        pair, ref_chosen_logps_B=pair.chosen_logps_B.detach(), ref_rejected_logps_B=pair.rejected_logps_B.detach()
    )
    for gradient in gradients(losses.sigmoid(equal, 0.1, 0.5), equal):
        assert_close(gradient, torch.zeros_like(gradient))


@given(pairs(), st.floats(0.01, 0.49))
@settings(max_examples=50, deadline=None)
def test_label_smoothing_is_the_average_over_flips_and_robust_undoes_it(pair, epsilon):
    right, flipped = losses.sigmoid(pair, 0.1), losses.sigmoid(exchanged(pair), 0.1)
    assert_close(losses.sigmoid(pair, 0.1, epsilon), (1 - epsilon) * right + epsilon * flipped, 1e-10)
    robust, robust_flipped = (losses.robust(one, 0.1, epsilon) for one in (pair, exchanged(pair)))
    assert_close((1 - epsilon) * robust + epsilon * robust_flipped, right, 1e-8)


@given(pairs(), st.floats(-50, 50))
@settings(max_examples=50, deadline=None)
def test_a_constant_on_both_sides_changes_nothing_where_only_the_difference_counts(pair, constant):
    moved = replace(
        pair, chosen_logps_B=pair.chosen_logps_B + constant, rejected_logps_B=pair.rejected_logps_B + constant
    )
    for name in ONLY_THE_DIFFERENCE:
        assert_close(AGAINST_REFERENCE[name](moved, 0.1), AGAINST_REFERENCE[name](pair, 0.1), 1e-8)
    assert_close(cpo(moved, 0.1), cpo(pair, 0.1), 1e-8)


@given(pairs(), st.floats(-50, 50))
@settings(max_examples=50, deadline=None)
def test_a_constant_on_policy_and_reference_changes_no_loss_against_a_reference(pair, constant):
    moved = replace(
        pair, chosen_logps_B=pair.chosen_logps_B + constant, ref_chosen_logps_B=pair.ref_chosen_logps_B + constant
    )
    for loss in AGAINST_REFERENCE.values():
        assert_close(loss(moved, 0.1), loss(pair, 0.1), 1e-8)


@given(pairs())
@settings(max_examples=50, deadline=None)
def test_two_identical_sides_teach_nothing(pair):
    same = replace(
        pair,
        rejected_logps_B=pair.chosen_logps_B,
        ref_rejected_logps_B=pair.ref_chosen_logps_B,
        num_rejected_tokens_B=pair.num_chosen_tokens_B,
    )
    for loss_B in (
        *(AGAINST_REFERENCE[name](same, 0.1) for name in [*ONLY_THE_DIFFERENCE, "sigmoid_norm", "ipo_token_mean"]),
        simpo(same, 2.0, gamma=1.0),
        cpo(same, 0.1),
    ):
        gradient = torch.autograd.grad(loss_B.sum(), same.chosen_logps_B)[0]
        assert_close(gradient, torch.zeros_like(gradient))


@given(pairs())
@settings(max_examples=50, deadline=None)
def test_a_more_likely_chosen_or_rejected_side_moves_the_loss_the_right_way(pair):
    for name in ["sigmoid", "robust_eps0.3", "hinge", "sigmoid_norm", "apo_zero"]:
        chosen, rejected = gradients(AGAINST_REFERENCE[name](pair, 0.1), pair)
        assert chosen <= 0 <= rejected
    for loss_B in (cpo(pair, 0.1), simpo(pair, 2.0, gamma=1.0)):
        chosen, rejected = gradients(loss_B, pair)
        assert chosen <= 0 <= rejected
    assert gradients(losses.apo_down(pair, 0.1), pair)[1] >= 0


@given(pairs(), st.floats(0, 5))
@settings(max_examples=50, deadline=None)
def test_gamma_and_gamma_over_beta_are_the_same_lead(pair, gamma):
    assert_close(simpo(pair, 2.5, gamma=gamma), simpo(pair, 2.5, gamma_beta_ratio=gamma / 2.5), 1e-10)


@given(pairs())
@settings(max_examples=50, deadline=None)
def test_a_margin_is_a_lead_that_the_chosen_side_must_have(pair):
    zero, one = (torch.full((1,), value, dtype=torch.float64) for value in (0.0, 1.0))
    assert_close(losses.sigmoid(pair, 0.1, margins_B=zero), losses.sigmoid(pair, 0.1))
    ahead = replace(pair, chosen_logps_B=pair.chosen_logps_B + 1.0 / 0.1)
    assert_close(losses.sigmoid(ahead, 0.1, margins_B=one), losses.sigmoid(pair, 0.1), 1e-8)


def test_orpo_keeps_its_digits_where_the_model_is_nearly_certain():
    sure = torch.tensor([-1e-9], dtype=torch.float32)
    pair = PairLogps(
        chosen_logps_B=sure,
        rejected_logps_B=torch.tensor([-1.0]),
        num_chosen_tokens_B=torch.tensor([1]),
        num_rejected_tokens_B=torch.tensor([1]),
    )
    log_odds = math.log(1e9) - (-1.0 - math.log(1.0 - math.exp(-1.0)))
    assert_close(orpo(pair, 1.0).double(), torch.tensor([math.log1p(math.exp(-log_odds))], dtype=torch.float64), 1e-6)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda p: losses.sigmoid(p, 0.0), "trainer.beta: must be above 0, but is 0.0"),
        (lambda p: losses.apo_zero(p, float("nan")), "trainer.beta: must be above 0, but is nan"),
        (lambda p: losses.sigmoid(p, 0.1, 0.6), "trainer.label_smoothing: must be from 0 to 0.5, but is 0.6"),
        (lambda p: losses.robust(p, 0.1, 0.5), "label_smoothing must be 0 to below 0.5, but is 0.5"),
        (lambda p: losses.ipo(p, 0.1, "token"), "loss.ipo_reduction: must be mean or sum, but is 'token'"),
        (lambda p: losses.sigmoid(p, 0.1, 0.1, p.chosen_logps_B), "with margins label_smoothing must be 0"),
        (lambda p: simpo(p, 2.0), "either gamma or gamma_beta_ratio"),
        (lambda p: simpo(p, 2.0, gamma=1.0, gamma_beta_ratio=0.5), "either gamma or gamma_beta_ratio"),
    ],
)
def test_an_option_out_of_range_is_refused(call, sentence):
    with pytest.raises(ConfigError, match=sentence):
        call(golden_pairs())


def test_a_loss_that_needs_a_reference_says_so():
    with pytest.raises(DataError, match="needs the reference's log-probs"):
        losses.sigmoid(replace(golden_pairs(), ref_chosen_logps_B=None, ref_rejected_logps_B=None), 0.1)

"""Global loss: however a step is cut, ordered or spread over ranks, its loss and gradient are the same."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from align.errors import DataError
from align.training.loss.global_loss import GlobalCounts, global_loss
from align.training.loss.objective import objective
from align.training.loss.settings import LossSettings
from align.training.loss.terms import loss_terms
from align.training.step.metrics import added, means, pair_sums, term_sums
from tests.training.loss.pairs_of_logps import golden_pairs, random_pairs, rows

NUM_PAIRS = 12
MIXED = objective({"loss_type": ["sigmoid", "ipo", "sft"], "loss_weights": [1.0, 0.3, 0.5], "label_smoothing": 0.1})
FREE = objective({"beta": 2.0}, LossSettings(type=["simpo", "orpo", "sft"], simpo_gamma=1.0))

cuts = st.permutations(range(NUM_PAIRS)).flatmap(
    lambda order: st.sets(st.integers(0, NUM_PAIRS)).map(lambda ends: _parts(order, ends))
)


def _parts(order, ends):
    """Row numbers of each part; parts may be empty."""
    limits = [0, *sorted(ends), NUM_PAIRS]
    return [list(order[start:end]) for start, end in itertools.pairwise(limits)]


def gradients(pairs, goal, parts):
    """Loss and gradients of the whole step, added up over its parts."""
    counts = GlobalCounts(len(pairs.chosen_logps_B), int(pairs.num_chosen_tokens_B.sum()))
    sides = (pairs.chosen_logps_B, pairs.rejected_logps_B)
    loss, totals = 0.0, [torch.zeros_like(side) for side in sides]
    for part in parts:
        share = global_loss(loss_terms(rows(pairs, torch.tensor(part, dtype=torch.long)), goal), counts)
        loss += share.item()
        totals = [a + b for a, b in zip(totals, torch.autograd.grad(share, sides), strict=True)]
    return loss, totals


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("goal", [MIXED, FREE], ids=["against a reference", "without"])
@given(parts=cuts)
@settings(max_examples=40, deadline=None)
def test_any_cut_and_order_gives_the_same_loss_and_gradient(goal, dtype, tolerance, parts):
    pairs = random_pairs(NUM_PAIRS, dtype=dtype)
    whole, cut = (gradients(pairs, goal, how) for how in ([list(range(NUM_PAIRS))], parts))
    assert cut[0] == pytest.approx(whole[0], rel=tolerance)
    for one, other in zip(whole[1], cut[1], strict=True):
        assert float((one - other).norm() / one.norm()) <= tolerance


@given(parts=cuts)
@settings(max_examples=20, deadline=None)
def test_any_cut_gives_the_same_metrics(parts):
    pairs = random_pairs(NUM_PAIRS)

    def sums(part):
        some = rows(pairs, torch.tensor(part, dtype=torch.long))
        return {**pair_sums(some, MIXED), **term_sums(loss_terms(some, MIXED), some.num_chosen_tokens_B.sum())}

    total = sums(parts[0])
    for part in parts[1:]:
        total = added(total, sums(part))
    assert means(total) == pytest.approx(means(sums(list(range(NUM_PAIRS)))), rel=1e-12)


def test_a_sum_of_losses_weights_each_over_its_own_count():
    goal, pairs = objective({"loss_type": ["hinge", "sft"], "loss_weights": [0.8, 0.2]}), golden_pairs()
    hinge, sft = loss_terms(pairs, goal)
    loss = global_loss([hinge, sft], GlobalCounts(4, 111))
    assert loss.item() == pytest.approx(0.8 * (0.9 + 1.175 + 0.6 + 1.25) / 4 + 0.2 * (12.5 + 40.25 + 7 + 88) / 111)
    assert [(term.name, term.weight, term.counted_by) for term in (hinge, sft)] == [
        ("hinge", 0.8, "pairs"),
        ("sft", 0.2, "chosen_tokens"),
    ]


def test_a_step_without_pairs_or_losses_is_refused():
    with pytest.raises(DataError, match="must have pairs and chosen tokens"):
        GlobalCounts(0, 0)
    with pytest.raises(DataError, match="at least one loss"):
        global_loss([], GlobalCounts(1, 1))

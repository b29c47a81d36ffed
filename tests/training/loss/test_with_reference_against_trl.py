"""Losses against TRL: equal value, gradient and metrics where TRL has the loss, and every known difference by name."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from align.training.loss.global_loss import GlobalCounts, global_loss
from align.training.loss.objective import objective
from align.training.loss.pairs import PairLogps, PairTails, length_desensitized
from align.training.loss.registry import OUR_LOSSES, SORTING_LOSSES, TRL_LOSSES, WEIGHTING_FAILS_IN_TRL
from align.training.loss.settings import LossSettings
from align.training.loss.terms import PairExtras, loss_terms
from align.training.loss.wpo import aligned_logps, wpo_weights
from align.training.step.metrics import TokenSums, means, num_tokens, pair_sums, token_sums
from tests.training.loss.pairs_of_logps import GOLDEN
from tests.training.stock_dpo import NUM_PROMPT_TOKENS, Tokens, random_tokens, stock_loss, stock_losses

LENGTHS = [4, 9, 5, 3, 6, 2, 7, 3]
"""Of four chosen and four rejected completions."""

TRL_OWN_LOSSES = {
    "nca_pair": ("nca_pair", {}),
    "bco_pair": ("bco_pair_delta0", {}),
    "sppo_hard": ("sppo_hard", {}),
    "discopop": ("discopop_tau0.05", {}),
    "exo_pair": ("exo_pair_eps1e-3", {"label_smoothing": 1e-3}),
}


def our_pairs(tokens: Tokens) -> PairLogps:
    chosen, rejected = tokens.log_probs.sum(dim=1).chunk(2)
    ref_chosen, ref_rejected = tokens.ref_log_probs.sum(dim=1).chunk(2)
    num_chosen, num_rejected = tokens.mask.sum(dim=1).chunk(2)
    return PairLogps(
        chosen_logps_B=chosen,
        rejected_logps_B=rejected,
        ref_chosen_logps_B=ref_chosen,
        ref_rejected_logps_B=ref_rejected,
        num_chosen_tokens_B=num_chosen,
        num_rejected_tokens_B=num_rejected,
    )


def our_tails(tokens: Tokens) -> PairTails:
    shared = torch.minimum(*tokens.mask.sum(dim=1).chunk(2)).repeat(2)
    is_tail = torch.arange(tokens.mask.shape[1])[None] >= shared[:, None]
    chosen, rejected = (tokens.log_probs * is_tail).sum(dim=1).chunk(2)
    ref_chosen, ref_rejected = (tokens.ref_log_probs * is_tail).sum(dim=1).chunk(2)
    return PairTails(
        chosen_logps_B=chosen,
        rejected_logps_B=rejected,
        ref_chosen_logps_B=ref_chosen,
        ref_rejected_logps_B=ref_rejected,
    )


def our_weights(tokens: Tokens, clamp: str) -> torch.Tensor:
    aligned = aligned_logps(tokens.log_probs, tokens.log_sum_sq_probs) * tokens.mask
    return wpo_weights(*(aligned.sum(dim=1) / tokens.mask.sum(dim=1)).chunk(2), clamp)


def our_loss(tokens: Tokens, trainer: dict, loss: LossSettings | None = None) -> torch.Tensor:
    goal = objective(trainer, loss)
    extras = PairExtras(
        tails=our_tails(tokens) if goal.ld_alpha is not None else None,
        weights_B=our_weights(tokens, goal.wpo_clamp) if goal.use_weighting else None,
    )
    pairs = our_pairs(tokens)
    counts = GlobalCounts(len(pairs.chosen_logps_B), int(pairs.num_chosen_tokens_B.sum()))
    return global_loss(loss_terms(pairs, goal, extras), counts)


def assert_equal_losses(tokens: Tokens, trainer: dict) -> None:
    options = dict(trainer)
    ours = our_loss(tokens, trainer)
    theirs, _ = stock_loss(tokens, loss_types=options.pop("loss_type", ["sigmoid"]), **options)
    torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)
    gradients = [torch.autograd.grad(loss, tokens.log_probs, retain_graph=True)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*[gradient * tokens.mask for gradient in gradients], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("beta", [0.1, 0.5])
@pytest.mark.parametrize(
    "trainer",
    [
        {},
        {"loss_type": ["hinge"]},
        {"loss_type": ["ipo"]},
        {"loss_type": ["robust"], "label_smoothing": 0.2},
        {"loss_type": ["apo_zero"]},
        {"loss_type": ["apo_down"]},
        {"loss_type": ["sft"]},
        {"loss_type": ["sigmoid_norm"]},
        {"loss_type": ["sigmoid", "sft", "apo_zero"], "loss_weights": [0.8, 0.2, 1.5]},
        {"ld_alpha": 0.3},
        {"ld_alpha": 0.0, "loss_type": ["ipo"]},
        {"ld_alpha": 0.3, "loss_type": ["sigmoid", "sft"]},
        {"use_weighting": True},
        {"use_weighting": True, "loss_type": ["apo_zero", "sigmoid_norm"], "loss_weights": [1.0, 0.5]},
    ],
    ids=str,
)
def test_loss_and_gradient_equal_trls(trainer, beta):
    assert_equal_losses(random_tokens(LENGTHS), {**trainer, "beta": beta})


@pytest.mark.parametrize("ld_alpha", [None, 0.3])
def test_every_metric_that_trl_logs_is_ours_too(ld_alpha):
    tokens = random_tokens(LENGTHS)
    _, theirs = stock_loss(tokens, ld_alpha=ld_alpha)
    goal, pairs = objective({"ld_alpha": ld_alpha}), our_pairs(tokens)
    compared = pairs if ld_alpha is None else length_desensitized(pairs, our_tails(tokens), ld_alpha, "both")
    lengths = tokens.mask.sum(dim=1)
    sides = [
        TokenSums(
            num_tokens_B=lengths[rows],
            entropy_B=tokens.entropy[rows].sum(dim=1),
            mean_logits_B=tokens.mean_logits[rows].sum(dim=1),
            num_top1_B=(tokens.is_top1 & tokens.mask.bool())[rows].sum(dim=1),
        )
        for rows in (slice(0, 4), slice(4, 8))
    ]
    prompts = torch.full((4,), NUM_PROMPT_TOKENS)
    ours = means(pair_sums(compared, goal)) | means(token_sums(*sides))
    ours["num_tokens"] = num_tokens(prompts, lengths[:4], lengths[4:])
    assert ours == pytest.approx(theirs, rel=1e-6) and ours.keys() == theirs.keys()


@pytest.mark.parametrize("name", TRL_OWN_LOSSES)
@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_the_losses_left_to_trl_have_their_golden_values(name, beta):
    golden, options = TRL_OWN_LOSSES[name]
    found = stock_losses(golden_tokens(), loss_types=[name], beta=beta, **options)
    assert found == pytest.approx(GOLDEN["expected"][f"beta={beta}"][golden], rel=1e-6)  # exo's epsilon is fp32 in TRL


@pytest.mark.parametrize(("name", "golden"), [("aot", "aot_paired"), ("aot_unpaired", "aot_unpaired")])
def test_trls_sorting_losses_have_their_golden_mean(name, golden):
    expected = GOLDEN["expected"]["beta=0.1"][golden]
    assert float(stock_loss(golden_tokens(), loss_types=[name])[0]) == pytest.approx(sum(expected) / 4, rel=1e-12)


def value(loss: torch.Tensor) -> float:
    return float(loss.detach())


def golden_tokens() -> Tokens:
    """The golden pairs as completions of one token."""
    inputs = {name: torch.tensor(values, dtype=torch.float64) for name, values in GOLDEN["inputs"].items()}
    policy = torch.cat([inputs["policy_chosen"], inputs["policy_rejected"]])[:, None]
    reference = torch.cat([inputs["ref_chosen"], inputs["ref_rejected"]])[:, None]
    return Tokens(torch.ones(8, 1, dtype=torch.long), policy, reference)


class TestWhereTrlDiffers:
    """TRL 1.16; a test that fails here after an upgrade means that TRL has changed."""

    def test_it_ignores_label_smoothing_in_sigmoid_and_sigmoid_norm(self):
        tokens = random_tokens(LENGTHS)
        for name in ("sigmoid", "sigmoid_norm"):
            plain, smoothed = (stock_loss(tokens, loss_types=[name], label_smoothing=e)[0] for e in (0.0, 0.3))
            ours = our_loss(tokens, {"loss_type": name, "label_smoothing": 0.3})
            assert value(plain) == value(smoothed) != pytest.approx(value(ours), abs=1e-3)

    def test_its_sft_depends_on_how_the_batch_is_cut(self):
        tokens = random_tokens(LENGTHS)
        whole = value(stock_loss(tokens, loss_types=["sft"])[0])
        cut = sum(stock_losses(tokens, loss_types=["sft"])) / 4
        assert abs(whole - cut) > 0.01

    @pytest.mark.parametrize("name", [*sorted(OUR_LOSSES), *sorted(TRL_LOSSES.keys() - SORTING_LOSSES)])
    def test_it_cannot_weight_hinge_and_sft(self, name):
        tokens, smoothing = random_tokens(LENGTHS), 0.1 if name == "exo_pair" else 0.0

        def step():
            stock_loss(tokens, loss_types=[name], use_weighting=True, label_smoothing=smoothing)[0].backward()

        if name not in WEIGHTING_FAILS_IN_TRL:
            return step()
        with pytest.raises(RuntimeError, match=r"inplace operation|more than one element of the written-to tensor"):
            step()

    def test_its_wpo_weights_may_exceed_1(self):
        tokens = random_tokens(LENGTHS)
        with torch.no_grad():
            tokens.log_probs.mul_(0.01)
        tokens.log_sum_sq_probs -= tokens.mask
        assert (our_weights(tokens, "none") > 1).all() and (our_weights(tokens, "one") == 1).all()
        assert_equal_losses(tokens, {"use_weighting": True})
        clamped = our_loss(tokens, {"use_weighting": True}, LossSettings(wpo_clamp="one"))
        assert value(clamped) < value(stock_loss(tokens, use_weighting=True)[0])

    def test_it_changes_the_reference_under_ld_alpha(self):
        tokens = random_tokens(LENGTHS)
        both, policy = (
            value(our_loss(tokens, {"ld_alpha": 0.3}, LossSettings(ld_alpha_on=on))) for on in ("both", "policy")
        )
        assert value(stock_loss(tokens, ld_alpha=0.3)[0]) == pytest.approx(both, rel=1e-12)
        assert both != pytest.approx(policy, rel=1e-3)

    def test_its_ipo_is_per_token(self):
        tokens = random_tokens(LENGTHS)
        per_token, summed = (
            value(our_loss(tokens, {"loss_type": "ipo"}, LossSettings(ipo_reduction=how))) for how in ("mean", "sum")
        )
        assert value(stock_loss(tokens, loss_types=["ipo"])[0]) == pytest.approx(per_token, rel=1e-12)
        assert per_token != pytest.approx(summed, rel=1e-3)

    def test_its_robust_at_one_half_is_infinite(self):
        found = value(stock_loss(random_tokens(LENGTHS), loss_types=["robust"], label_smoothing=0.4999999)[0])
        assert abs(found) > 1e3  # it warns; here it is refused from 0.5 on

    def test_it_averages_micro_batches_of_metrics_and_not_pairs(self):
        tokens = random_tokens(LENGTHS)
        whole = stock_loss(tokens)[1]["entropy"]
        halves = [stock_loss(one)[1]["entropy"] for one in (pair_of(tokens, 0), pair_of(tokens, 1))]
        assert whole != pytest.approx(sum(halves) / 2, rel=1e-3)


def pair_of(tokens: Tokens, index: int) -> Tokens:
    rows = [index, 4 + index]
    return replace(
        tokens, mask=tokens.mask[rows], log_probs=tokens.log_probs[rows], ref_log_probs=tokens.ref_log_probs[rows]
    )

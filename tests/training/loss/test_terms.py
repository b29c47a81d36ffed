"""Loss terms: each name in an objective is that loss with that objective's options, and nothing is passed over."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from align.errors import ConfigError, DataError
from align.training.loss import with_reference as losses
from align.training.loss.objective import objective
from align.training.loss.pairs import PairTails
from align.training.loss.registry import LOSSES_TRL_LACKS, OUR_LOSSES
from align.training.loss.settings import LossSettings, MarginSettings
from align.training.loss.terms import PairExtras, loss_terms
from align.training.loss.without_reference import cpo, orpo, sft, simpo
from tests.training.loss.pairs_of_logps import golden_pairs

BETA, EPSILON = 0.7, 0.2
ALL_OPTIONS = {
    "sigmoid": lambda pairs: losses.sigmoid(pairs, BETA, EPSILON),
    "sigmoid_norm": lambda pairs: losses.sigmoid_norm(pairs, BETA, EPSILON),
    "robust": lambda pairs: losses.robust(pairs, BETA, EPSILON),
    "hinge": lambda pairs: losses.hinge(pairs, BETA),
    "ipo": lambda pairs: losses.ipo(pairs, BETA, "sum"),
    "apo_zero": lambda pairs: losses.apo_zero(pairs, BETA),
    "apo_down": lambda pairs: losses.apo_down(pairs, BETA),
    "simpo": lambda pairs: simpo(pairs, BETA, gamma_beta_ratio=0.5, label_smoothing=EPSILON),
    "orpo": lambda pairs: orpo(pairs, BETA),
    "cpo": lambda pairs: cpo(pairs, BETA, EPSILON),
    "sft": sft,
}


def terms(trainer, loss=None, **extras):
    return loss_terms(golden_pairs(), objective(trainer, LossSettings(**(loss or {}))), PairExtras(**extras))


def test_every_loss_of_our_path_is_here():
    assert ALL_OPTIONS.keys() == OUR_LOSSES | LOSSES_TRL_LACKS


@pytest.mark.parametrize("name", ALL_OPTIONS)
def test_a_loss_gets_every_option_of_the_objective(name):
    loss = {"type": name, "simpo_gamma_beta_ratio": 0.5, "ipo_reduction": "sum"}
    (term,) = terms({"beta": BETA, "label_smoothing": EPSILON}, loss)
    assert torch.equal(term.losses_B, ALL_OPTIONS[name](golden_pairs()))


def test_simpo_gets_gamma():
    (term,) = terms({"beta": 2.5}, {"type": "simpo", "simpo_gamma": 1.375})
    assert torch.equal(term.losses_B, simpo(golden_pairs(), 2.5, gamma=1.375))


def test_sigmoid_gets_the_margins():
    margins_B = torch.tensor([0.1, 0.2, 0.3, 0.4]).double()
    (term,) = terms({}, {"margin": MarginSettings(scale=1.0, of="difference")}, margins_B=margins_B)
    assert torch.equal(term.losses_B, losses.sigmoid(golden_pairs(), 0.1, margins_B=margins_B))


def test_weights_and_tails_act_on_every_loss_but_sft():
    goal = objective({"loss_type": ["sigmoid", "sft"], "use_weighting": True, "ld_alpha": 0.5})
    pairs, half = golden_pairs(), torch.full((4,), 0.5).double()
    tails = PairTails(
        chosen_logps_B=pairs.chosen_logps_B,
        rejected_logps_B=pairs.rejected_logps_B,
        ref_chosen_logps_B=pairs.ref_chosen_logps_B,
        ref_rejected_logps_B=pairs.ref_rejected_logps_B,
    )
    compared, learned = loss_terms(pairs, goal, PairExtras(tails=tails, weights_B=half))
    assert torch.equal(compared.losses_B, 0.5 * losses.sigmoid(pairs, 0.05))  # all tail: half of every sum
    assert torch.equal(learned.losses_B, sft(pairs))


@pytest.mark.parametrize(
    ("trainer", "loss", "extras", "sentence"),
    [
        ({"ld_alpha": 0.5}, {}, {}, "trainer.ld_alpha: is set, but the pairs lack"),
        ({"use_weighting": True}, {}, {}, "trainer.use_weighting: is set, but the pairs lack"),
        ({}, {"margin": MarginSettings(scale=1.0, of="difference")}, {}, "loss.margin: is set, but the pairs lack"),
        ({}, {}, {"weights_B": torch.ones(4)}, "trainer.use_weighting: is not set, but the pairs bring it"),
        ({}, {}, {"margins_B": torch.ones(4)}, "loss.margin: is not set, but the pairs bring it"),
    ],
)
def test_an_option_without_its_numbers_and_numbers_without_their_option_are_refused(trainer, loss, extras, sentence):
    with pytest.raises(DataError, match=sentence):
        terms(trainer, loss, **extras)


def test_a_reference_that_is_missing_is_refused():
    bare = replace(golden_pairs(), ref_chosen_logps_B=None, ref_rejected_logps_B=None)
    with pytest.raises(DataError, match="needs the reference's log-probs"):
        loss_terms(bare, objective({}))


def test_a_loss_of_trls_path_is_refused():
    sentence = "loss 'aot': must be sft or one of sigmoid, .* others run on TRL's path only"
    with pytest.raises(ConfigError, match=sentence):
        terms({"loss_type": "aot"})

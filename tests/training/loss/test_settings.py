"""Loss settings: what would be ignored, named twice or run nowhere is refused; the rest becomes an objective."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from align.training.loss.mistakes import loss_mistakes
from align.training.loss.objective import objective
from align.training.loss.settings import LossSettings, MarginSettings

SIMPO = {"type": "simpo", "simpo_gamma": 1.0}


def sentences(trainer, loss):
    return [sentence for _, sentence in loss_mistakes({"trainer": trainer, "loss": loss})]


@pytest.mark.parametrize(
    ("trainer", "loss"),
    [
        ({}, {}),
        ({"label_smoothing": 0.1}, {}),
        ({"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.1], "ld_alpha": 0.5}, {"ld_alpha_on": "policy"}),
        ({"loss_type": "ipo"}, {"ipo_reduction": "sum"}),
        ({"beta": 2.0}, SIMPO),
        ({"beta": 2.0}, {**SIMPO, "type": ["simpo", "sft"], "weights": [1.0, 0.05]}),
        ({}, {"type": ["cpo", "sft"]}),
        ({}, {"type": "orpo"}),
        ({"use_weighting": True}, {"wpo_clamp": "one"}),
        ({}, {"margin": {"scale": 1.0}}),
        ({"loss_type": "aot", "label_smoothing": 0.1}, {}),
        ({"loss_type": "exo_pair", "label_smoothing": 1e-3}, {}),
        ({"sync_ref_model": True}, {}),
        ("not a section", 3),
        ({"loss_type": [1, 2]}, {}),
    ],
    ids=str,
)
def test_what_some_path_honours_is_no_mistake(trainer, loss):
    assert sentences(trainer, loss) == []


@pytest.mark.parametrize(
    ("trainer", "loss", "sentence"),
    [
        ({"loss_type": "sigmoid", "beta": 2.0}, SIMPO, "loss.type and trainer.loss_type name the same thing"),
        (
            {"loss_weights": [1.0]},
            {"type": "cpo", "weights": [1.0]},
            "loss.weights and trainer.loss_weights name the same thing; give one of them",
        ),
        ({}, {"type": "sigmoid"}, "loss.type: TRL has sigmoid itself; name it in trainer.loss_type"),
        ({}, {"type": ["simpoo"]}, "loss.type: 'simpoo' is not a loss; did you mean simpo?"),
        ({}, {"type": ["cpo", "aot"]}, "loss.type: aot cannot be summed with these: it runs on TRL's path only"),
        ({}, {"type": []}, "loss.type must name at least one loss, is []"),
        ({"loss_type": "simpo"}, {}, "TRL's DPOConfig has no simpo; set loss: {type: simpo}"),
        ({"loss_type": "hinges"}, {}, "trainer.loss_type: 'hinges' is not a loss of TRL's; did you mean hinge?"),
        ({"loss_weights": [1.0, 2.0]}, {}, "trainer.loss_weights must have one weight for each of ['sigmoid'], is"),
        (
            {},
            {"type": ["cpo", "sft"], "weights": [1.0]},
            "loss.weights must have one weight for each of ['cpo', 'sft']",
        ),
        ({}, {"weights": [1.0]}, "loss.weights is refused: it belongs to loss.type; use trainer.loss_weights"),
        ({"beta": 2.0}, {"type": "simpo"}, "needs one of loss.simpo_gamma and loss.simpo_gamma_beta_ratio"),
        ({"beta": 2.0}, {**SIMPO, "simpo_gamma_beta_ratio": 0.5}, "(gamma / beta); both are given"),
        ({}, SIMPO, "simpo needs trainer.beta named"),
        ({}, {"simpo_gamma": 1.0}, "loss.simpo_gamma is refused: no loss named here reads it; it counts with simpo"),
        ({"beta": 0}, {}, "trainer.beta must be above 0, is 0.0"),
        ({"label_smoothing": 0.6}, {}, "trainer.label_smoothing must be from 0 to 0.5, is 0.6"),
        (
            {"label_smoothing": 0.5, "loss_type": "robust"},
            {},
            "trainer.label_smoothing must be below 0.5 with robust, is 0.5",
        ),
        ({"ld_alpha": -1.0}, {}, "trainer.ld_alpha must be from 0 to 1, is -1.0"),
        ({"label_smoothing": 0.1, "loss_type": "hinge"}, {}, "trainer.label_smoothing is refused: nothing reads it"),
        ({"ld_alpha": 0.5, "loss_type": "sft"}, {}, "trainer.ld_alpha is refused: nothing reads it with sft"),
        ({"ld_alpha": 0.5}, {"type": "orpo"}, "trainer.ld_alpha is refused: nothing reads it with orpo"),
        (
            {"use_weighting": True, "loss_type": "sft"},
            {},
            "trainer.use_weighting is refused: nothing reads it with sft",
        ),
        ({}, {"ipo_reduction": "sum"}, "loss.ipo_reduction is refused: nothing reads it with sigmoid"),
        ({}, {"ld_alpha_on": "policy"}, "loss.ld_alpha_on is refused: nothing reads it"),
        ({}, {"wpo_clamp": "one"}, "it counts with trainer.use_weighting: true"),
        ({"loss_type": "hinge"}, {"margin": {"scale": 1.0}}, "loss.margin is refused: nothing reads it with hinge"),
        ({"label_smoothing": 0.1}, {"margin": {"scale": 1.0}}, "loss.margin is refused with trainer.label_smoothing"),
        ({"use_weighting": True, "loss_type": "aot"}, {}, "trainer.use_weighting is refused: aot sorts the batch"),
        ({"label_smoothing": 0.1, "sync_ref_model": True}, {}, "trainer.sync_ref_model: True: the reference moves"),
        ({"loss_type": ["ipo", "bco_pair"]}, {"ipo_reduction": "sum"}, "runs on TRL's path only, the second not there"),
    ],
)
def test_what_no_path_would_honour_is_a_mistake(trainer, loss, sentence):
    found = sentences(trainer, loss)
    assert len(found) == 1 and sentence in found[0]


def test_a_mistake_names_where_it_stands():
    mistakes = loss_mistakes({"trainer": {"loss_type": "sigmoid", "beta": 2.0}, "loss": SIMPO})
    assert [location for location, _ in mistakes] == [("loss", "type")]


@pytest.mark.parametrize(
    "wrong",
    [
        {"simpo_gama": 1.0},
        {"ipo_reduction": "token"},
        {"margin": {"scale": 0.0, "of": "difference"}},
        {"simpo_gamma": -1.0},
    ],
)
def test_unknown_names_and_values_are_refused(wrong):
    with pytest.raises(ValidationError):
        LossSettings.model_validate(wrong)


def test_an_objective_has_trls_defaults():
    found = objective({})
    assert (found.losses, found.beta, found.ipo_reduction) == ((("sigmoid", 1.0),), 0.1, "mean")
    assert found.needs_reference and not found.rewards_are_means


def test_an_objective_describes_every_choice():
    loss = LossSettings(
        type=["simpo", "sft"],
        weights=[1.0, 0.1],
        simpo_gamma_beta_ratio=0.5,
        margin=MarginSettings(scale=2.0, of="log_difference"),
    )
    described = objective({"beta": 2, "label_smoothing": 0.1}, loss).described()
    assert described == {
        "losses": [{"type": "simpo", "weight": 1.0}, {"type": "sft", "weight": 0.1}],
        "beta": 2.0,
        "label_smoothing": 0.1,
        "ipo_reduction": "mean",
        "simpo_gamma": None,
        "simpo_gamma_beta_ratio": 0.5,
        "ld_alpha": None,
        "ld_alpha_on": "both",
        "use_weighting": False,
        "wpo_clamp": "none",
        "margin_scale": 2.0,
        "margin_of": "log_difference",
    }


def test_only_losses_without_reference_need_none():
    assert not objective({}, LossSettings(type=["cpo", "sft"])).needs_reference
    assert objective({}, LossSettings(type=["cpo", "sigmoid"])).needs_reference
    assert not objective({"loss_type": "sft"}).needs_reference

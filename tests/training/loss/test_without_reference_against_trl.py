"""Reference-free losses against TRL's experimental trainers for them: equal formulas, and the terms that TRL adds."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from align.training.loss.without_reference import cpo, orpo, sft, simpo
from tests.training.loss.pairs_of_logps import random_pairs

ACCELERATOR = SimpleNamespace(device="cpu")
EXPERIMENTAL = Path(find_spec("trl").submodule_search_locations[0]) / "experimental"


@pytest.fixture(autouse=True)
def trl_says_nothing_of_experiments(monkeypatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")


def cpo_losses(chosen_B, rejected_B, **options):
    from trl.experimental.cpo import CPOTrainer

    defaults = {"loss_type": "sigmoid", "beta": 0.1, "label_smoothing": 0.0, "alpha": 0.0, "accelerator": ACCELERATOR}
    return CPOTrainer.cpo_loss(SimpleNamespace(**{**defaults, **options}), chosen_B, rejected_B)[0]


@pytest.mark.parametrize("epsilon", [0.0, 0.2])
def test_cpo_and_simpo_equal_trls(epsilon):
    pairs = random_pairs(6)
    theirs = cpo_losses(pairs.chosen_logps_B, pairs.rejected_logps_B, label_smoothing=epsilon)
    torch.testing.assert_close(cpo(pairs, 0.1, epsilon), theirs, rtol=1e-12, atol=1e-12)
    means = (pairs.chosen_mean_logps_B, pairs.rejected_mean_logps_B)
    theirs = cpo_losses(*means, loss_type="simpo", beta=2.5, simpo_gamma=1.375, label_smoothing=epsilon)
    ours = simpo(pairs, 2.5, gamma=1.375, label_smoothing=epsilon)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_orpos_odds_ratio_equals_trls_in_float32():
    from trl.experimental.orpo import ORPOTrainer

    pairs = random_pairs(6, dtype=torch.float32)
    trainer = SimpleNamespace(beta=0.1, accelerator=ACCELERATOR)
    theirs, *_ = ORPOTrainer.odds_ratio_loss(trainer, pairs.chosen_mean_logps_B, pairs.rejected_mean_logps_B)
    ours = orpo(pairs, 0.1) - sft(pairs) / pairs.num_chosen_tokens_B
    torch.testing.assert_close(ours, -theirs, rtol=1e-5, atol=1e-6)


def test_trl_adds_an_nll_to_cpo_and_simpo_by_default():
    source = ast.parse((EXPERIMENTAL / "cpo" / "cpo_config.py").read_text(encoding="utf-8"))
    (default,) = [
        ast.literal_eval(word.value)
        for node in ast.walk(source)
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "cpo_alpha"
        for word in node.value.keywords
        if word.arg == "default"
    ]
    assert default == 1.0

"""Preference metrics: rewards by the kind of loss, and counts that add up (equality with TRL: beside the losses)."""

from __future__ import annotations

import pytest
import torch

from align.errors import DataError
from align.training.loss.objective import objective
from align.training.loss.settings import LossSettings
from align.training.step.metrics import added, means, pair_sums, rewards
from tests.training.loss.pairs_of_logps import golden_pairs


def free(name):
    return objective({"beta": 2.0}, LossSettings(type=name, simpo_gamma=1.0 if name == "simpo" else None))


def test_rewards_are_log_ratios_or_log_probs_or_nats_a_token():
    assert rewards(golden_pairs(), objective({"beta": 2.0}))[0].tolist() == [1.0, -2.5, 1.0, -16.0]
    assert rewards(golden_pairs(), free("cpo"))[1].tolist() == [-28.0, -76.0, -43.0, -181.0]
    for name in ("simpo", "orpo"):
        assert rewards(golden_pairs(), free(name))[0].tolist() == [-2.5, -2.515625, -2.8, -2.75]


def test_equal_rewards_count_as_wrong():
    pairs = golden_pairs()
    ratios = pairs.chosen_logratios_B > pairs.rejected_logratios_B
    assert means(pair_sums(pairs, objective({})))["rewards/accuracies"] == ratios.double().mean()
    zero = {name: torch.ones(4).double() for name in vars(pairs)}
    assert means(pair_sums(type(pairs)(**zero), objective({})))["rewards/accuracies"] == 0


def test_a_metric_that_counted_nothing_is_left_out():
    assert means({"entropy": (torch.tensor(0.0), torch.tensor(0))}) == {}


def test_parts_with_other_names_do_not_add_up():
    one = {"entropy": (torch.tensor(1.0), torch.tensor(1))}
    with pytest.raises(DataError, match=r"these differ: \['entropy', 'loss'\]"):
        added(one, {"loss": one["entropy"]})

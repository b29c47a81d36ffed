"""WPO: a pair counts by how likely the policy is to write it."""

from __future__ import annotations

import pytest
import torch

from align.errors import ConfigError
from align.training.loss.wpo import aligned_logps, wpo_weights

CHOSEN, REJECTED = torch.tensor([-0.5, 0.75], requires_grad=True), torch.tensor([-1.0, 0.25])


def test_a_weight_is_the_product_of_both_sides_and_clamped_where_told():
    expected = torch.exp(torch.tensor([-1.5, 1.0]))
    torch.testing.assert_close(wpo_weights(CHOSEN, REJECTED, "none"), expected)
    torch.testing.assert_close(wpo_weights(CHOSEN, REJECTED, "one"), expected.clamp(max=1))


def test_weights_carry_no_gradient():
    assert not wpo_weights(CHOSEN, REJECTED, "none").requires_grad
    assert not aligned_logps(CHOSEN, REJECTED).requires_grad


def test_an_even_distribution_has_weight_1():
    logps_T = torch.full((7,), 1 / 50).log()
    log_sum_sq_T = torch.full((7, 50), 1 / 50).square().sum(dim=1).log()
    mean_B = aligned_logps(logps_T, log_sum_sq_T).mean()[None]
    torch.testing.assert_close(wpo_weights(mean_B, mean_B, "none"), torch.ones(1))


def test_an_unknown_clamp_is_refused():
    with pytest.raises(ConfigError, match=r"loss\.wpo_clamp: must be none or one, but is 'two'"):
        wpo_weights(CHOSEN, REJECTED, "two")

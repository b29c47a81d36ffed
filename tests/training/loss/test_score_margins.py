"""Score margins: the difference of two scores or its logarithm; a tie or a wrong order is refused."""

from __future__ import annotations

import math

import pytest
import torch

from align.errors import ConfigError, DataError
from align.training.loss.score_margins import score_margins

CHOSEN, REJECTED = torch.tensor([9.0, 8.0]), torch.tensor([5.0, 7.5])


def test_margins_are_the_scaled_difference_or_its_logarithm():
    torch.testing.assert_close(score_margins(CHOSEN, REJECTED, 0.5, "difference"), torch.tensor([2.0, 0.25]))
    logarithms = torch.tensor([math.log(4.0), math.log(0.5)])
    torch.testing.assert_close(score_margins(CHOSEN, REJECTED, 1.0, "log_difference"), logarithms)


@pytest.mark.parametrize("rejected", [[5.0, 8.0], [5.0, 9.0], [5.0, math.nan], [5.0, -math.inf]])
def test_a_tie_a_wrong_order_or_a_missing_score_is_refused(rejected):
    with pytest.raises(DataError, match=r"pair 1 of this batch must have a chosen score above .* has 8 and"):
        score_margins(CHOSEN, torch.tensor(rejected), 1.0, "difference")


def test_an_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match=r"loss\.margin\.of: must be difference or log_difference, but is 'ratio'"):
        score_margins(CHOSEN, REJECTED, 1.0, "ratio")

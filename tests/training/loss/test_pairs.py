"""Pair log-probs: wrong tensors are refused; what is beyond the shared length is counted as told."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from align.errors import ConfigError, DataError
from align.training.loss.pairs import PairTails, length_desensitized
from tests.training.loss.pairs_of_logps import golden_pairs


def tails(reference=True):
    one, two = torch.tensor([0.0, -2.0, 0.0, -1.0]).double(), torch.tensor([-3.0, 0.0, -8.0, 0.0]).double()
    return PairTails(
        chosen_logps_B=one,
        rejected_logps_B=two,
        ref_chosen_logps_B=2 * one if reference else None,
        ref_rejected_logps_B=2 * two if reference else None,
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"chosen_logps_B": torch.zeros(4, dtype=torch.bfloat16)},
            "must be float32 or float64, but are torch.bfloat16",
        ),
        ({"rejected_logps_B": torch.zeros(4)}, "rejected_logps_B: must be torch.float64"),
        ({"rejected_logps_B": torch.zeros(3).double()}, r"must have shape \(4,\) .* but has \(3,\)"),
        ({"num_chosen_tokens_B": torch.ones(4, 1)}, r"num_chosen_tokens_B: must have shape \(4,\)"),
        ({"ref_rejected_logps_B": None}, "both sides or none"),
    ],
)
def test_wrong_tensors_are_refused(change, sentence):
    with pytest.raises(DataError, match=sentence):
        replace(golden_pairs(), **change)


def test_both_changes_the_reference_too_and_policy_does_not():
    pairs = golden_pairs()
    both, policy = (length_desensitized(pairs, tails(), 0.25, on) for on in ("both", "policy"))
    assert torch.equal(both.chosen_logps_B, pairs.chosen_logps_B - 0.75 * tails().chosen_logps_B)
    assert torch.equal(both.ref_rejected_logps_B, pairs.ref_rejected_logps_B - 0.75 * tails().ref_rejected_logps_B)
    assert torch.equal(policy.rejected_logps_B, both.rejected_logps_B)
    assert torch.equal(policy.ref_rejected_logps_B, pairs.ref_rejected_logps_B)


def test_an_alpha_of_1_changes_nothing():
    changed = length_desensitized(golden_pairs(), tails(), 1.0, "both")
    assert all(torch.equal(value, vars(golden_pairs())[name]) for name, value in vars(changed).items())


def test_without_a_reference_only_the_policy_is_changed():
    bare = replace(golden_pairs(), ref_chosen_logps_B=None, ref_rejected_logps_B=None)
    assert not length_desensitized(bare, tails(reference=False), 0.5, "both").has_reference


def test_missing_tails_of_the_reference_and_an_alpha_out_of_range_are_refused():
    with pytest.raises(DataError, match="left out"):
        length_desensitized(golden_pairs(), tails(reference=False), 0.5, "both")
    with pytest.raises(ConfigError, match=r"trainer\.ld_alpha: must be from 0 to 1, but is 1\.5"):
        length_desensitized(golden_pairs(), tails(), 1.5, "both")

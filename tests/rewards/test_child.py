"""Child: whatever one request does, the others get their score, and nothing passes in silence."""

from __future__ import annotations

import pytest

from align.errors import ConfigError, DataError
from align.rewards.child import ChildChecker


@pytest.fixture
def checker():
    made = ChildChecker("Odd", "tests.rewards.odd_checks:make_odd", timeout_s=60.0)
    yield made
    made.close()


def test_a_check_that_dies_raises_prints_or_eats_all_memory_costs_its_own_score_only(checker, capfd):
    requests = ["fine", "die", "fine", "raise", "print", "eat", "fine"]
    assert checker.scores_now(requests) == [0.5, None, 0.5, None, 0.5, None, 0.5]
    assert (checker.num_timeouts, checker.num_failed) == (0, 3)
    said = capfd.readouterr().err
    assert "it died" not in said and "its child process died (exit code 3); 1 so far" in said
    assert "ValueError: odd; 2 so far" in said and "3 so far" not in said  # the 1st, 2nd, 4th … are printed


def test_a_wrong_row_raises_and_the_next_request_is_scored(checker):
    with pytest.raises(DataError, match="the row is wrong"):
        checker.scores_now(["fine", "bad row", "fine"])
    assert checker.scores_now(["fine"]) == [0.5]


def test_a_batch_larger_than_any_pipe_passes(checker):
    assert checker.scores_now(["x" * 100_000] * 50) == [0.5] * 50


def test_no_request_needs_no_child(checker):
    assert checker.scores_now([]) == []
    assert checker._child._process is None


def test_a_child_that_cannot_start_is_an_error_that_shows_why(capfd):
    broken = ChildChecker("Broken", "tests.rewards.odd_checks:make_broken", timeout_s=1.0)
    with pytest.raises(ConfigError, match="its child process did not start"):
        broken.scores_now(["fine"])
    assert "ImportError: a library is missing" in capfd.readouterr().err

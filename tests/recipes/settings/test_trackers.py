"""Trackers in the settings: what `report_to` may name."""

from __future__ import annotations

import pytest

from align.recipes.settings.trackers import TRACKERS, tracker_mistakes


def mistakes(report_to: object) -> list[str]:
    return [sentence for _, sentence in tracker_mistakes({"trainer": {"report_to": report_to}})]


@pytest.mark.parametrize("report_to", [None, "none", [], "wandb", ["wandb"]])
def test_what_is_installed_or_nothing_is_no_mistake(report_to):
    assert mistakes(report_to) == []


def test_a_tracker_that_is_not_installed_is_named_with_the_command_that_installs_it():
    missing = [name for name in TRACKERS if mistakes(name)]
    assert all(f"{name} is not installed; run: pip install {name}" in mistakes(name)[0] for name in missing)
    assert "wandb" not in missing


@pytest.mark.parametrize("name", ["all", "comet_ml"])
def test_other_trackers_are_refused(name):
    (sentence,) = mistakes(name)
    assert f"'{name}' is not a tracker that is supported" in sentence and "wandb" in sentence


def test_a_misspelt_tracker_is_guessed():
    assert "did you mean wandb" in mistakes(["wand"])[0]


@pytest.mark.parametrize("variable", ["WANDB_WATCH", "WANDB_LOG_MODEL"])
def test_asking_wandb_for_the_weights_is_refused(monkeypatch, variable):
    monkeypatch.setenv(variable, "all")
    (sentence,) = mistakes("wandb")
    assert f"{variable} is set and would be ignored" in sentence
    assert mistakes("none") == []

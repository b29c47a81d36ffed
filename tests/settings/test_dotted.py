"""Dotted paths: the named object is made, and what cannot be is explained."""

from __future__ import annotations

import importlib

import pytest

from align.errors import ConfigError
from align.settings.dotted import MOVED, UseSettings, load_object, source_sha256


def test_use_makes_the_named_object_with_its_settings():
    made = UseSettings.model_validate({"use": "align.rewards.text.ShortSentence", "max_words": 4}).load()
    assert made(prompts=["?"], completions=["Only four words here.", "These are more than four words."]) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("use", "complaint"),
    [
        ("align.rewards.text.ShortSentense", "did you mean ShortSentence?"),
        ("no_such_package.reward", "there is no module 'no_such_package'"),
        ("reward", "must be a dotted path"),
    ],
)
def test_use_explains_what_it_cannot_find(use, complaint):
    with pytest.raises(ConfigError) as caught:
        UseSettings.model_validate({"use": use}).load()
    assert complaint in str(caught.value)


def test_use_explains_settings_that_the_class_does_not_take():
    with pytest.raises(ConfigError, match="cannot be made with"):
        UseSettings.model_validate({"use": "align.rewards.text.ShortSentence", "longest": 4}).load()


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_a_name_that_has_moved_still_works_and_says_the_new_one(old, new, capsys):
    name = next(name for name, value in vars(importlib.import_module(new)).items() if isinstance(value, type))
    assert load_object(f"{old}.{name}") is getattr(importlib.import_module(new), name)
    assert source_sha256(old) == source_sha256(new)
    assert capsys.readouterr().err == f"use: {old}.{name} is called {new}.{name} now; the old name goes with 0.2\n"

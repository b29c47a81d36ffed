"""Thoughts are told from answers."""

from __future__ import annotations

import pytest

from align.teachers.reasoning import split_reasoning


@pytest.mark.parametrize(
    ("text", "is_open", "expected"),
    [
        (" 42 \n", False, ("42", "")),
        ("<think>\nsix by seven\n</think>\n\n42", False, ("42", "six by seven")),
        ("six by seven</think>42", True, ("42", "six by seven")),
        ("<think>six by", False, ("", "six by")),
        ("six by", True, ("", "six by")),
        ("<think>\n\n</think>\n\n42", False, ("42", "")),
        ("The tag <think> opens, </think> closes.", False, ("The tag <think> opens, </think> closes.", "")),
    ],
    ids=["none", "whole", "opened by the prompt", "cut off", "opened and cut off", "empty", "only mentioned"],
)
def test_thoughts_are_kept_apart(text, is_open, expected) -> None:
    assert split_reasoning(text, is_open) == expected

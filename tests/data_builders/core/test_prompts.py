"""Prompts: a question that stands on both sides of the split is found however it is set."""

from __future__ import annotations

import pytest

from align.data.rows.pair import Message, Prompt
from align.data_builders.core.prompts import on_both_sides


def asked(*texts: str) -> list[Prompt]:
    return [Prompt((Message("user", text),)) for text in texts]


@pytest.mark.parametrize("text", ["WHAT is  this?", "What is\nthis?", "What\tis\r\nthis? ", "What\u3000is this?"])
def test_case_and_white_space_make_no_other_question(text):
    assert on_both_sides(asked(text, "another"), asked("What is this?")) == asked(text)

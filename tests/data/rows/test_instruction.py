"""Instruction: system text and examples come before the prompt's own turns."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from pydantic import ValidationError

from align.data.rows.instruction import Example, Instruction
from align.data.rows.pair import Message, Messages, Prompt
from tests.data.rows.test_pair import questions

ASKED = Message("user", "Who are you?")
EXAMPLE = Example(user="Hi", assistant="Ahoy!")


def test_system_text_then_examples_then_the_prompt() -> None:
    instruction = Instruction(system="You are a whaler.", examples=[EXAMPLE])
    assert instruction.apply((ASKED,)) == (
        Message("system", "You are a whaler."),
        Message("user", "Hi"),
        Message("assistant", "Ahoy!"),
        ASKED,
    )


def test_system_message_of_the_prompt_is_joined_by_a_blank_line() -> None:
    prompt = (Message("system", "Be brief."), ASKED)
    applied = Instruction(system="You are a whaler.").apply(prompt)
    assert applied == (Message("system", "You are a whaler.\n\nBe brief."), ASKED)


def test_system_message_of_the_prompt_stays_before_the_examples() -> None:
    own = Message("system", "Be brief.")
    assert Instruction(examples=[EXAMPLE]).apply((own, ASKED))[:2] == (own, Message("user", "Hi"))


@settings(deadline=None)
@given(questions())
def test_empty_instruction_changes_nothing(prompt: Messages) -> None:
    assert Instruction().is_empty
    assert Instruction().apply(prompt) == prompt


@settings(deadline=None)
@given(questions())
def test_instructed_prompt_is_a_valid_prompt(prompt: Messages) -> None:
    instruction = Instruction(system="You are a whaler.", examples=[EXAMPLE, EXAMPLE])
    assert not instruction.is_empty
    assert Prompt(instruction.apply(prompt)).messages[-1] == prompt[-1]


@pytest.mark.parametrize(
    "values",
    [
        {"system": " "},
        {"system": "a\0"},
        {"examples": [{"user": "Hi", "assistant": ""}]},
        {"examples": [{"user": "Hi"}]},
        {"sytem": "You are a whaler."},
    ],
)
def test_instruction_that_cannot_be_said_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Instruction.model_validate(values)

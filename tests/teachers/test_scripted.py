"""The scripted teacher answers from a function."""

from __future__ import annotations

import asyncio

import pytest

from align.data.rows.pair import Message
from align.teachers.base import Completion, Sampling
from align.teachers.scripted import ScriptedTeacher

HELLO = (Message("user", "hello"),)


def test_script_sees_messages_sampling_and_index() -> None:
    seen = []

    def script(messages, sampling, index):
        seen.append((messages, sampling, index))
        return f"answer {index}"

    sampling = Sampling(temperature=0.3)
    answers = asyncio.run(ScriptedTeacher("echo", script).complete(HELLO, sampling, n=2))
    assert [answer.text for answer in answers] == ["answer 0", "answer 1"]
    assert seen == [(HELLO, sampling, 0), (HELLO, sampling, 1)]


def test_plain_text_is_a_whole_answer_and_a_completion_stays_as_it_is() -> None:
    cut = Completion("too lo", "length")
    teacher = ScriptedTeacher("mixed", lambda messages, sampling, index: "whole" if index == 0 else cut)
    assert asyncio.run(teacher.complete(HELLO, Sampling(), n=2)) == [Completion("whole", "stop"), cut]


def test_calls_are_counted_not_samples() -> None:
    teacher = ScriptedTeacher("count", lambda messages, sampling, index: "x")
    asyncio.run(teacher.complete(HELLO, Sampling(), n=3))
    asyncio.run(teacher.complete(HELLO, Sampling()))
    assert teacher.num_calls == 2


def test_error_of_the_script_reaches_the_caller() -> None:
    def script(messages, sampling, index):
        raise KeyError("unknown prompt")

    with pytest.raises(KeyError, match="unknown prompt"):
        asyncio.run(ScriptedTeacher("angry", script).complete(HELLO, Sampling()))

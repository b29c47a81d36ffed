"""Plan: calls and money before anything is bought, and how well the band holds."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest

from align.data.files.rows import write_rows
from align.data.rows.pair import Demonstration, Message
from align.data_builders.contrast import ContrastBuilder, ContrastSettings
from align.data_builders.core.plan import completion_tokens, make_plan
from align.data_builders.student import StudentBuilder, StudentSettings
from align.settings.base import load_settings
from align.teachers.base import Completion
from align.teachers.ledger.budget import UNITS
from align.teachers.ledger.entry import Answer, Call
from align.teachers.ledger.report import spending
from align.teachers.scripted import ScriptedTeacher
from tests.data_builders.test_network import build, echo, words
from tests.teachers.server import Request, Server, answer


def lengthy(request: Request):
    """Log-normal lengths, fixed by the prompt; the good side is longer."""
    asked = json.dumps(request.body["messages"])
    is_good = "Be good." in asked
    length = random.Random(asked).lognormvariate(3.5 if is_good else 3.0, 0.5)
    usage = {"prompt_tokens": len(asked) // 4, "completion_tokens": max(1, min(200, round(length)))}
    return answer(f"{'good' if is_good else 'bad'} {request.prompt}", usage=usage)


def plan(tmp_path: Path, url: str, *more: str, num_prompts: int):
    settings = words(tmp_path, url, "sampling.max_tokens=200", *more, num_prompts=num_prompts)
    return asyncio.run(make_plan(ContrastBuilder(load_settings(ContrastSettings, None, settings))))


def test_a_plan_asks_a_few_rows_and_they_are_not_bought_again(tmp_path, capsys):
    with Server(lengthy) as server:
        assert build(tmp_path, server.url, "--plan", num_prompts=100) == 0
        said = capsys.readouterr().out
        assert len(server.requests) == 2 * 10  # a tenth
        assert "100 prompts, 180 calls still to ask" in said and "95 % band" in said and "CNY" in said
        assert not (tmp_path / "out").exists()
        assert build(tmp_path, server.url, num_prompts=100) == 0
        assert len(server.requests) == 200
        assert build(tmp_path, server.url, "--plan", num_prompts=100) == 0
        assert "0 calls still to ask" in capsys.readouterr().out
        assert len(server.requests) == 200


def test_the_run_costs_what_the_band_says(tmp_path):
    with Server(lengthy) as server:
        made = plan(tmp_path, server.url, num_prompts=300).teachers[0]
        assert made.completion_tokens is not None
        low, high = (made.cost(tokens) for tokens in made.completion_tokens[1:])
        before = spending(tmp_path / "ledger.sqlite")[0].cost
        assert build(tmp_path, server.url, "sampling.max_tokens=200", num_prompts=300) == 0
        paid = spending(tmp_path / "ledger.sqlite")[0].cost - before
    assert low <= paid <= high < made.most


def test_the_band_holds_as_often_as_it_says():
    numbers = random.Random(0)

    def row() -> list[tuple[Call, Answer]]:
        lengths = (max(1, round(numbers.lognormvariate(mean, 0.5))) for mean in (3.5, 3.0))
        return [
            (Call("t", "m", {"max_tokens": 2000}), Answer("", "", "stop", "", 5, None, length)) for length in lengths
        ]

    num_held = 0
    for _ in range(500):
        sampled, rest = [row() for _ in range(20)], [pair for _ in range(200) for pair in row()]
        band = completion_tokens(sampled, [call for call, _ in rest])
        assert band is not None
        num_held += band[1] <= sum(answer.completion_tokens or 0 for _, answer in rest) <= band[2]
    assert 0.91 <= num_held / 500 <= 0.98


def test_with_few_rows_only_the_most_is_said_and_nothing_is_asked(tmp_path, capsys):
    with Server(echo) as server:
        assert build(tmp_path, server.url, "--plan", "budget=0.0001", num_prompts=5) == 0
        said = capsys.readouterr().out
        assert not server.requests
    assert "at most" in said and "band" not in said and "may be reached" in said


def test_a_budget_holds_for_the_sampled_rows_too(tmp_path):
    with Server(lengthy) as server:
        assert build(tmp_path, server.url, "--plan", f"budget={30_000 / UNITS}", num_prompts=100) == 5
        assert not server.requests


def test_a_free_teacher_is_planned_by_calls_and_each_teacher_by_itself(tmp_path):
    rows = [
        Demonstration((Message("user", f"Who is {number}?"),), (Message("assistant", f"It is {number}."),))
        for number in range(40)
    ]
    write_rows(tmp_path / "answers.jsonl", rows)
    settings = load_settings(
        StudentSettings,
        None,
        [f"answers={tmp_path / 'answers.jsonl'}", f"output_dir={tmp_path / 'out'}", "student.model=unused"],
    )
    own = ScriptedTeacher("own", lambda messages, sampling, index: Completion("well", "stop", 10, 7))
    made = asyncio.run(make_plan(StudentBuilder(settings, student=own)))
    assert [(one.teacher, one.num_calls, one.cost(1000)) for one in made.teachers] == [("own", 36, 0)]
    assert made.teachers[0].completion_tokens == (pytest.approx(252), pytest.approx(252), pytest.approx(252))

"""Builders over the network: what a user sees when the teacher, the key or the money fails, and what a rerun buys."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from align.cli import app
from align.data_builders.contrast import ContrastBuilder
from align.teachers.ledger.budget import UNITS
from align.teachers.ledger.report import spending
from tests.teachers.asking import entries
from tests.teachers.server import Reply, Request, Server, answer, error

CANARY = "sk-canary-0123456789abcdef0123456789"
PRICES = "myself: {m: {currency: CNY, input: 2, output: 8}}\n"
ONE_CALL = 12 * 2_000 + 3 * 8_000
"""Billionths of a yuan for what `answer` charges."""


def echo(request: Request) -> Reply:
    """An answer that shows what it was asked under."""
    instructions = [message["content"] for message in request.body["messages"][:-1]]
    return answer(f"{' '.join(instructions) or 'Plainly'}: answer to {request.prompt}")


def words(tmp_path: Path, url: str, *more: str, num_prompts: int = 21) -> list[str]:
    (tmp_path / "prices.yaml").write_text(PRICES)
    prompts = [f"question {number}" for number in range(num_prompts)]
    return [
        f"prompts={json.dumps(prompts)}",
        f"output_dir={tmp_path / 'out'}",
        "teacher.model=m",
        f"teacher.base_url={url}",
        "teacher.name=myself",
        f"teacher.prices={tmp_path / 'prices.yaml'}",
        "sampling.max_tokens=20",
        "good.system=Be good.",
        *more,
    ]


def build(tmp_path: Path, url: str, *more: str, num_prompts: int = 21) -> int:
    return ContrastBuilder.main(words(tmp_path, url, *more, num_prompts=num_prompts))


def num_pairs(tmp_path: Path) -> int:
    return len((tmp_path / "out" / "pairs.jsonl").read_text().splitlines())


def test_one_prompt_more_is_one_call_more_a_step_and_another_system_prompt_is_all_new(tmp_path):
    with Server(echo) as server:
        assert build(tmp_path, server.url) == 0
        assert len(server.requests) == 2 * 21
        assert build(tmp_path, server.url, num_prompts=22) == 0
        assert len(server.requests) == 2 * 22
        assert build(tmp_path, server.url, "good.system=Be better.", "bad.system=Be worse.", num_prompts=22) == 0
        assert len(server.requests) == 4 * 22
        swapped = [f"question {number}" for number in (1, 0, *range(2, 22))]
        assert build(tmp_path, server.url, f"prompts={json.dumps(swapped)}") == 0
        assert build(tmp_path, server.url, "gates.chosen.max_words=50", num_prompts=22) == 0
        assert len(server.requests) == 4 * 22


def test_other_urls_need_a_confirmation_and_cost_nothing(tmp_path, capsys):
    with Server(echo) as first, Server(echo) as second:
        assert build(tmp_path, first.url) == 0
        assert build(tmp_path, second.url) == 2
        assert "same_teacher=true" in capsys.readouterr().err
        assert build(tmp_path, second.url, "teacher.same_teacher=true") == 0
        assert not second.requests


def test_the_budget_ends_the_build_with_5_and_a_higher_one_goes_on(tmp_path, capsys):
    with Server(echo) as server:
        limit = 100 * ONE_CALL / UNITS
        assert build(tmp_path, server.url, f"budget={limit}", num_prompts=100) == 5
        assert "with a higher budget= goes on" in capsys.readouterr().err
        num_bought = len(server.requests)
        assert num_bought * ONE_CALL <= 100 * ONE_CALL and num_bought > 50
        assert build(tmp_path, server.url, "budget=1", num_prompts=100) == 0
        assert len(server.requests) == 200
    assert num_pairs(tmp_path) == 100
    counts = json.loads((tmp_path / "out" / "counts.json").read_text())
    assert counts["spent"] == {"CNY": pytest.approx(200 * ONE_CALL / UNITS)}
    assert "spent" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(("status", "code"), [(401, 4), (402, 4), (403, 4), (404, 2)])
def test_a_hopeless_server_ends_the_build_with_the_servers_words(tmp_path, capsys, status, code):
    with Server(lambda request: error(status, "the dog ate it")) as server:
        assert build(tmp_path, server.url) == code
    said = capsys.readouterr().err
    assert "the dog ate it" in said and "Every answer is kept" in said


def test_a_refused_row_is_dropped_with_the_servers_reason_and_not_asked_again_unless_wished(tmp_path):
    def picky(request: Request) -> Reply:
        return error(400, "Content Exists Risk") if request.prompt == "question 13" else echo(request)

    with Server(picky) as server:
        assert build(tmp_path, server.url, "concurrency=1") == 0
        num_requests = len(server.requests)
        assert build(tmp_path, server.url) == 0
        assert len(server.requests) == num_requests
        assert build(tmp_path, server.url, "ask_failed_again=true") == 0
        assert len(server.requests) > num_requests
    dropped = json.loads((tmp_path / "out" / "dropped.jsonl").read_text())
    assert (dropped["reason"], dropped["detail"]) == ("bad_request", "Content Exists Risk")
    assert num_pairs(tmp_path) == 20


def test_a_key_is_in_no_byte_that_is_produced(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("MY_KEY", CANARY)

    def telltale(request: Request) -> Reply:
        assert request.headers["authorization"] == f"Bearer {CANARY}"
        if request.number == 3:
            return error(400, f"bad key {CANARY}")
        said = " ".join(message["content"] for message in request.body["messages"])
        return answer(f"{said * len(request.body['messages'])}: you sent {CANARY}")

    with Server(telltale) as server:
        assert build(tmp_path, server.url, "teacher.api_key_env=MY_KEY") == 0
    with Server(lambda request: error(401, f"who is {CANARY}?")) as server:
        assert build(tmp_path, server.url, "teacher.api_key_env=MY_KEY", "teacher.name=another") == 4
    crash = subprocess.run(
        [
            sys.executable,
            "-X",
            "dev",
            "-c",
            CRASH,
            *words(tmp_path, server.url, "teacher.api_key_env=MY_KEY", "teacher.name=x"),
        ],
        capture_output=True,
        text=True,
    )
    assert "Traceback" in crash.stderr and "the label broke" in crash.stderr
    said = capfd.readouterr()
    for text in (said.out, said.err, crash.stdout, crash.stderr):
        assert CANARY not in text
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path


CRASH = """
import sys
from align.data_builders.contrast import ContrastBuilder
class Broken(ContrastBuilder):
    async def label(self, prompt):
        raise ZeroDivisionError(f"the label broke with {self.teacher} and {vars(self.teacher)} and {self.settings}")
Broken.main(sys.argv[1:])
"""


def test_sigterm_waits_for_what_is_on_its_way_and_ends_with_75(tmp_path):
    process: list[subprocess.Popen[str]] = []

    def slow(request: Request) -> Reply:
        reply = echo(request)
        reply.delay_s = 0.3
        if request.number == 10:
            process[0].send_signal(signal.SIGTERM)
        return reply

    with Server(slow) as server:
        command = [
            sys.executable,
            "-m",
            "align.data_builders.contrast",
            *words(tmp_path, server.url, "teacher.concurrency=4"),
        ]
        process.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        _, said = process[0].communicate()
        assert process[0].returncode == 75 and "the same command goes on" in said
        num_paid = len(server.requests)
        assert entries(tmp_path, "state").count("answered") == num_paid
        assert build(tmp_path, server.url) == 0
        assert len(server.requests) == 42


def test_the_ledger_verb_shows_spending_and_unknown_outcomes_and_exports(tmp_path):
    from typer.testing import CliRunner

    def breaks_once(request: Request) -> Reply:
        return Reply(is_reset=True) if request.number == 5 else echo(request)

    with Server(breaks_once) as server:
        assert build(tmp_path, server.url) == 0
    path = str(tmp_path / "ledger.sqlite")
    shown = CliRunner().invoke(app, ["ledger", path]).output
    line = spending(path)[0]
    assert (line.num_answered, line.num_unknown) == (42, 1)
    assert "1 requests have an unknown outcome" in shown and "may not have been charged" in shown and "myself" in shown
    exported = CliRunner().invoke(app, ["ledger", path, "--export", str(tmp_path / "all.jsonl")]).output
    assert "42 answers" in exported and len((tmp_path / "all.jsonl").read_text().splitlines()) == 42
    missing = CliRunner().invoke(app, ["ledger", str(tmp_path / "no.sqlite")])
    assert missing.exit_code == 2

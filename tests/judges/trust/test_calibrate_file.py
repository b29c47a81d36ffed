"""`align judge` and a judge in a builder: settings, an endpoint in JSON mode, the ledger, dropped rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from align.data.files.rows import write_rows
from align.data.rows.pair import Dropped, Message, PreferencePair, Prompt
from align.data_builders.core.base import DataBuilder
from align.data_builders.core.settings import BuilderSettings
from align.errors import ConfigError
from align.judges.trust.calibrate_file import CalibrationSettings, judge_file
from align.judges.verdict_text import VERDICT_SCHEMA
from align.settings.base import load_settings
from align.settings.command import exit_code_of
from align.teachers.base import Sampling
from tests.judges.pairs import pairs
from tests.judges.trust.test_injections import gullible
from tests.teachers.server import Request, Server, answer


def judging(request: Request):
    messages = [Message(one["role"], one["content"]) for one in request.body["messages"]]
    text = messages[-1].content
    said = gullible(messages, Sampling(), 0)
    if "Question 1?" in text:
        said = "I would rather not say."
    elif "Question 2?" in text:
        said = '{"reason": "both fine", "winner": "tie"}'
    return answer(said, usage={"prompt_tokens": len(text), "completion_tokens": 10})


def settings(url: str, *words: str) -> CalibrationSettings:
    base = [f"teacher.base_url={url}", "teacher.model=test-model", "teacher.name=judge", "criteria=Which is right?"]
    return load_settings(CalibrationSettings, None, [*base, *words])


def test_a_file_is_judged_once_and_the_second_time_out_of_the_ledger(tmp_path, capsys):
    write_rows(tmp_path / "labels.jsonl", pairs(6))
    with Server(judging) as server:
        calibration, _ = judge_file(tmp_path / "labels.jsonl", settings(server.url))
        assert (calibration.num_pairs, calibration.unreadable.num, calibration.agreement.num) == (6, 1, 4)
        assert len(server.requests) == 12 and (tmp_path / "ledger.sqlite").exists()
        assert server.requests[0].body["response_format"] == {"type": "json_object"}
        judge_file(tmp_path / "labels.jsonl", settings(server.url))
        assert len(server.requests) == 12
    first, second = capsys.readouterr().out.strip().split("\npairwise:", 1)
    assert f"pairwise:{second}" == first
    assert (
        "pairwise:judge:test-model: 5 of 6 pairs judged" in first and "unreadable            1 of 6, 16.7% [" in first
    )


def test_injections_are_tried_on_the_first_pairs(tmp_path, capsys):
    write_rows(tmp_path / "labels.jsonl", pairs(6))
    with Server(judging) as server:
        _, report = judge_file(tmp_path / "labels.jsonl", settings(server.url, "injection_pairs=3"), True)
    assert report is not None and (report.num_pairs, report.num_without_loser) == (3, 2)
    assert set(report.counts) == {"held"}
    assert "flipped               0 of 30, 0.0% [0.0%, 97.5%]" in capsys.readouterr().out


def test_a_strict_endpoint_gets_the_schema(tmp_path):
    write_rows(tmp_path / "labels.jsonl", pairs(1))
    with Server(judging) as server:
        judge_file(tmp_path / "labels.jsonl", settings(server.url, "teacher.endpoint=vllm"))
        wanted = server.requests[0].body["response_format"]["json_schema"]
    assert wanted["schema"] == VERDICT_SCHEMA and wanted["strict"] is True


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["num_votes=3"], "num_votes is 3, but with sampling.temperature 0 all votes are equal"),
        (["criteria='  '"], "must not be blank"),
        (["criterion=x"], "did you mean criteria?"),
        (["second_order=sometimes"], "second_order must"),
    ],
)
def test_wrong_settings_are_refused(words, message):
    with pytest.raises(ConfigError) as caught:
        settings("http://127.0.0.1:1/v1", *words)
    assert message in str(caught.value)


def test_a_longer_verdict_stays_greedy():
    assert settings("http://127.0.0.1:1/v1", "sampling.max_tokens=900").sampling.make().temperature == 0


def test_a_missing_file_ends_with_exit_code_2(tmp_path, capsys):
    code = exit_code_of(lambda: judge_file(tmp_path / "no.jsonl", settings("http://127.0.0.1:1/v1")))
    assert code == 2 and "no.jsonl: must be a file" in capsys.readouterr().err


class Given(DataBuilder[BuilderSettings]):
    """Pairs of two answers that stand in the prompt's meta."""

    config_class = BuilderSettings

    async def label(self, prompt: Prompt) -> PreferencePair | Dropped:
        chosen, rejected = ((Message("assistant", prompt.meta[side]),) for side in ("a", "b"))
        return PreferencePair(prompt.messages, chosen, rejected)


def test_a_builders_judge_keeps_winners_and_drops_ties_and_unreadable_verdicts_with_their_reason(tmp_path: Path):
    given = pairs(5)
    prompts = [Prompt(p.prompt, {"a": p.chosen[0].content, "b": p.rejected[0].content}) for p in given]
    write_rows(tmp_path / "prompts.jsonl", prompts)
    with Server(judging) as server:
        words = [
            f"prompts={tmp_path / 'prompts.jsonl'}",
            f"output_dir={tmp_path / 'out'}",
            *(f"judge.teacher.{word}" for word in (f"base_url={server.url}", "model=test-model", "name=judge")),
            "judge.criteria=Which is right?",
        ]
        Given(load_settings(BuilderSettings, None, words)).run()
        num_asked = len(server.requests)
    rows, dropped = (
        [json.loads(line) for line in (tmp_path / "out" / f"{name}.jsonl").read_text().splitlines()]
        for name in ("pairs", "dropped")
    )
    assert [row["chosen"][0]["content"].split()[0] for row in rows] == ["right"] * 3
    assert {row["reason"] for row in dropped} == {"judge_unreadable", "judged_tie"} and len(dropped) == 2
    assert "I would rather not say." in dropped[0]["detail"]
    assert rows[0]["meta"]["judge"]["winner"] == "chosen" and all(rows[0]["meta"]["judge"]["ledger"])
    assert num_asked == 10

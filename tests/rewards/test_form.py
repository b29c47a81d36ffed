"""Form: what matches, what is JSON that fits, and what is not searched at all."""

from __future__ import annotations

import json

import pytest

from align.errors import ConfigError
from align.rewards.form import JsonSchema, Matches

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}


def scores(reward, *texts):
    return reward(prompts=["?"] * len(texts), completions=[[{"role": "assistant", "content": text}] for text in texts])


def test_a_pattern_is_found_anywhere_and_with_whole_must_be_all():
    assert scores(Matches(r"\d+ 个"), "共 12 个", "12", "12 个") == [1.0, 0.0, 1.0]
    assert scores(Matches(r"\d+", whole=True), "12", "12 ", "a12") == [1.0, 0.0, 0.0]
    assert scores(Matches("(?i)yes"), "YES", "no") == [1.0, 0.0]


def test_a_pattern_that_backtracks_without_end_is_stopped_and_has_no_score(capsys):
    reward = Matches(r"^(a|aa)+$", timeout_s=0.2)
    assert scores(reward, "a" * 60 + "b", "aaa", "b") == [None, 1.0, 0.0]
    assert reward.num_not_searched == 1
    assert "has no score (None): it took longer than 0.2 s; 1 so far" in capsys.readouterr().err


def test_a_completion_that_is_too_long_is_not_searched(capsys):
    assert scores(Matches("a", max_chars=3), "aaa", "aaaa") == [1.0, None]
    assert "it has 4 characters, more than 3; 1 so far" in capsys.readouterr().err


@pytest.mark.parametrize(
    "settings", [{"pattern": "("}, {"pattern": "a", "timeout_s": 0}, {"pattern": "a", "max_chars": 0}]
)
def test_a_pattern_or_limit_that_cannot_be_is_refused(settings):
    with pytest.raises(ConfigError, match=r"Matches: .* must be"):
        Matches(**settings)


@pytest.mark.parametrize("text", ['{"a": 1}', ' \n{"a":1}\n'])
def test_a_value_that_fits_scores_1(text):
    assert scores(JsonSchema(SCHEMA), text) == [1.0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"a": "1"}',
        '{"a": 1, "b": 2}',
        'Sure: {"a": 1}',
        '{"a": 1} {"a": 1}',
        '{"a": 1',
        "{'a': 1}",
        '{"a": 1, "a": 2}',
        '```json\n{"a": 1}\n```',
        "NaN",
        "[" * 100_000,
        "1" * 5_000,
    ],
)
def test_anything_else_scores_0(text):
    assert scores(JsonSchema(SCHEMA), text) == [0.0]


def test_nan_is_no_number():
    assert scores(JsonSchema({"type": "number"}), "NaN", "-Infinity", "1e3") == [0.0, 0.0, 1.0]


def test_with_fenced_one_whole_block_counts_and_words_around_it_do_not():
    reward = JsonSchema(SCHEMA, fenced=True)
    block = '```json\n{"a": 1}\n```'
    assert scores(reward, block, '{"a": 1}', f"Sure:\n{block}", f"{block}\n{block}") == [1.0, 1.0, 0.0, 0.0]


def test_a_schema_may_stand_in_a_file_and_refer_to_itself(tmp_path):
    tree = {"$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}}}, "$ref": "#/$defs/n"}
    (tmp_path / "s.json").write_text(json.dumps(tree), encoding="utf-8")
    assert scores(JsonSchema(file=str(tmp_path / "s.json")), "[[], [[]]]", "[1]") == [1.0, 0.0]


def test_nothing_is_fetched_for_a_reference_to_elsewhere():
    with pytest.raises(ConfigError, match="every \\$ref must lead to a place inside the schema"):
        scores(JsonSchema({"$ref": "https://example.com/schema.json"}), "{}")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "exactly one of schema and file"),
        ({"schema": SCHEMA, "file": "s.json"}, "exactly one of schema and file"),
        ({"schema": {"type": "objct"}}, "must be a JSON Schema"),
        ({"file": "nowhere.json"}, "must be a JSON file"),
    ],
)
def test_a_schema_that_is_none_is_refused(settings, text):
    with pytest.raises(ConfigError, match=text):
        JsonSchema(**settings)

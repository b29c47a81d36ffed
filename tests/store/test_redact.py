"""Redaction: secrets go, ordinary settings pass unchanged."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from align.settings.yaml import read_yaml
from align.store.redact import REDACTED, names_a_secret, redact, redact_command

ROOT = Path(__file__).parents[2]
CANARY = "sk-CANARY1234567890abcdef"

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@pytest.mark.parametrize(
    "name",
    [
        *["api_key", "apikey", "apiKey", "openai_api_key", "X-Api-Key", "trainer.hub_token", "push_to_hub_token"],
        *["token", "access_token", "auth_token", "HF_TOKEN", "secret", "client_secret", "aws_secret_access_key"],
        *["password", "db_password", "Authorization", "proxy-authorization", "credentials", "--api-key"],
    ],
)
def test_names_of_secrets(name):
    assert names_a_secret(name)
    assert redact({name: "x", "other": 1}) == {name: REDACTED, "other": 1}


@pytest.mark.parametrize(
    "name",
    [
        *["eos_token", "pad_token", "bos_token", "eos_token_id", "max_tokens", "num_tokens", "mean_token_accuracy"],
        *["api_key_env", "token_file", "sort_key", "key", "metric_for_best_model", "tokenizer", "author", "passes"],
    ],
)
def test_ordinary_names(name):
    assert redact({name: "<|im_end|>"}) == {name: "<|im_end|>"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"run {CANARY} now", f"run {REDACTED} now"),
        ("hf_abcdefghijklmnopqrstuvwxyz12345678", REDACTED),
        ("AKIAIOSFODNN7EXAMPLE", REDACTED),
        ("Authorization: Bearer abc.def-123456", f"Authorization: Bearer {REDACTED}"),
        ("https://me:hunter2@host:8000/v1", f"https://{REDACTED}@host:8000/v1"),
        ("https://host/v1?key=abc&n=2", f"https://host/v1?key={REDACTED}&n=2"),
        ("https://host/v1?n=2&access_token=abc", f"https://host/v1?n=2&access_token={REDACTED}"),
        ("teacher.api_key=abc trainer.beta=0.1", f"teacher.api_key={REDACTED} trainer.beta=0.1"),
        ("'teacher={api_key: abc, model: m}'", f"'teacher={{api_key: {REDACTED}, model: m}}'"),
        ('{"hub_token": "a b", "n": 1}', f'{{"hub_token": "{REDACTED}", "n": 1}}'),
        ("serve --api-key abc --port 1", f"serve --api-key {REDACTED} --port 1"),
    ],
)
def test_secrets_in_text(text, shown):
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        *["runs/desk-top-assistant-2024-with-a-name", "hf_internal_testing/tiny-random", "task-sk-learn-classifiers"],
        *["the bearer certificates of a bank", "http://127.0.0.1:8000/v1", "trainer={max_steps: 4, beta: 0.1}"],
        *["eos_token=<|im_end|>", "--max-tokens 128", "trainer.hub_token: must be a text", "2026-11-23T13:10:26+0000"],
        *["embedded:smollm2-135m", "Qwen/Qwen2.5-0.5B-Instruct", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822c"],
    ],
)
def test_ordinary_text_passes_unchanged(text):
    assert redact(text) == text


@pytest.mark.parametrize("path", sorted([*ROOT.glob("recipes/*.yaml"), *ROOT.glob("data_builders/*.yaml")]), ids=str)
def test_every_shipped_file_passes_unchanged(path):
    assert redact(path.read_text(encoding="utf-8")) == path.read_text(encoding="utf-8")
    data = read_yaml(str(path)).data
    assert redact(data) == data


def test_everything_below_a_secret_name_goes_and_the_shape_stays():
    value = {"credentials": {"user": "me", "codes": [1, "b"]}, "use_auth_token": True, "hub_token": None, "api_key": ""}
    shown = {"credentials": {"user": REDACTED, "codes": [REDACTED, REDACTED]}}
    assert redact(value) == {**value, **shown}


@pytest.mark.parametrize("name", ["DEEPSEEK_API_KEY", "my_token", "DB_PASSWORD", "APP_SECRET"])
def test_the_value_of_a_secret_variable_goes_wherever_it_stands(name, monkeypatch):
    monkeypatch.setenv(name, "correct horse")
    assert redact({"notes": ["it is correct horse, twice"]}) == {"notes": [f"it is {REDACTED}, twice"]}


def test_a_short_or_an_ordinary_variable_is_not_looked_for(monkeypatch):
    monkeypatch.setenv("A_TOKEN", "short")
    monkeypatch.setenv("A_MODEL", "a-long-model-name")
    assert redact("short a-long-model-name") == "short a-long-model-name"


def test_a_command_line_can_be_typed_again_without_its_secrets():
    words = ["align", "train", "x.yaml", "teacher.api_key=a b'c", "--api-key", "abc", f"run_name={CANARY}", "n=a b"]
    shown = f"align train x.yaml 'teacher.api_key={REDACTED}' --api-key '{REDACTED}' 'run_name={REDACTED}' 'n=a b'"
    assert redact_command(words) == shown


@given(VALUES)
def test_twice_is_once_and_numbers_stay(value):
    once = redact(value)
    assert redact(once) == once
    assert type(once) is type(value)


@given(st.text(), st.text())
def test_a_key_in_any_text_is_gone(before, after):
    assert CANARY not in str(redact({"a": [f"{before} {CANARY} {after}"]}))


@given(st.lists(st.integers() | st.floats(allow_nan=False) | st.booleans() | st.none()))
def test_what_is_not_text_passes_unchanged(values):
    assert redact({"values": values}) == {"values": values}

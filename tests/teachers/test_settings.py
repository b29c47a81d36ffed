"""Teacher settings: local or endpoint, keys from the environment only, and clear mistakes."""

from __future__ import annotations

import asyncio
import re

import pytest

from align.errors import ConfigError
from align.models.identity import weights_sha256
from align.settings.base import Settings, load_settings
from align.teachers.endpoint.presets import PRESETS
from align.teachers.ledger.ledger import Ledger
from align.teachers.ledger.prices import Price, read_prices
from align.teachers.ledger.recorded import RecordedTeacher
from align.teachers.local import LocalTeacher
from align.teachers.settings import TeacherSettings

CANARY = "sk-canary-0123456789abcdef0123456789"


class _Builder(Settings):
    teacher: TeacherSettings


def teacher(*words: str) -> TeacherSettings:
    return load_settings(_Builder, None, [f"teacher.{word}" for word in ("model=m", *words)]).teacher


def mistake(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        teacher(*words)
    return str(caught.value)


def test_without_an_endpoint_it_is_a_local_model_recorded_by_what_its_files_hold(tiny_model, tmp_path):
    async def main() -> str:
        async with Ledger.open(tmp_path / "l") as ledger:
            made = teacher(f"model={tiny_model}", "compute=float32", "batch_size=2").make(ledger)
            await made.aclose()
            assert isinstance(made, RecordedTeacher)
        return made.name

    assert asyncio.run(main()) == f"local:{tiny_model}"
    assert LocalTeacher(tiny_model, "float32").version != LocalTeacher(tiny_model).version
    assert weights_sha256(tiny_model)[:12] in LocalTeacher(tiny_model).version


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_makes_a_teacher(name, tmp_path, monkeypatch):
    if PRESETS[name].api_key_env:
        monkeypatch.setenv(PRESETS[name].api_key_env, CANARY)

    async def main():
        async with Ledger.open(tmp_path / "l") as ledger:
            made = teacher(f"endpoint={name}").make(ledger)
            await made.aclose()
        return made.name

    assert asyncio.run(main()) == f"{name}:m"
    assert teacher(f"endpoint={name}").place().urls == (PRESETS[name].base_url,)


def test_a_server_of_ones_own_is_named_after_its_host_or_as_one_likes():
    assert teacher("base_url=http://gpu1:8000/v1").place().name == "gpu1:8000"
    group = teacher("base_url=[http://gpu1:8000/v1, http://gpu2:8000/v1]", "name=ours").place()
    assert (group.name, len(group.urls), group.key) == ("ours", 2, None)


def test_the_key_comes_from_the_environment_and_is_asked_for_by_name(monkeypatch):
    monkeypatch.delenv("DEEPSEEK_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="DEEPSEEK_API_KEY must hold the key of deepseek"):
        teacher("endpoint=deepseek").place()
    monkeypatch.setenv("MY_KEY", f" {CANARY}\n")
    place = teacher("endpoint=deepseek", "api_key_env=MY_KEY").place()
    assert place.key is not None and place.key.reveal() == CANARY and CANARY not in repr(place)
    monkeypatch.setenv("MY_KEY", "two words")
    with pytest.raises(ConfigError, match="MY_KEY must hold a key, but has spaces"):
        teacher("endpoint=deepseek", "api_key_env=MY_KEY").place()


@pytest.mark.parametrize(
    "word",
    [
        f"api_key={CANARY}",
        f"api_key_env={CANARY}",
        f"api_key_env={CANARY.replace('-', '_')}",
        f"base_url=https://me:{CANARY}@host/v1",
        f"base_url=https://host/v1?key={CANARY}",
    ],
    ids=["api_key", "in api_key_env", "with underscores", "in the URL", "in the query"],
)
def test_a_key_among_the_settings_is_refused_and_not_repeated_in_the_sentence(word):
    from align.store.redact import redact

    text = str(redact(mistake("endpoint=deepseek", word)))
    assert CANARY not in text.split(": ", 2)[-1] and "1 mistake" in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["endpoint=deepsek"], "must be one of deepseek, qwen, .*did you mean deepseek?"),
        (["endpoint=vllm", "batch_size=4"], "batch_size means nothing for an endpoint"),
        (["concurrency=4"], "concurrency means nothing for a local model; an endpoint needs endpoint: or base_url:"),
        (["base_url=localhost:8000"], "must start with http:// or https:// and a host"),
        (["base_url=http://x/v1/chat/completions"], "must end before /chat/completions"),
        (["base_url=[]"], "must name at least one URL"),
        (["base_url=http://x/v1", "requests_per_second=0"], "greater than 0"),
    ],
)
def test_a_mistake_says_what_must_hold(words, sentence):
    assert re.search(sentence, mistake(*words))


def test_shipped_prices_can_be_read_and_a_copy_takes_their_place(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPSEEK_API_KEY", CANARY)
    assert {provider for provider, _ in read_prices()} <= set(PRESETS)
    assert teacher("model=deepseek-flash", "endpoint=deepseek").place().price == Price(
        currency="CNY", input=2, cached=0.04, output=8
    )
    copy = tmp_path / "prices.yaml"
    copy.write_text("deepseek:\n  m: {currency: USD, input: 1, output: 3}\n")
    place = teacher("endpoint=deepseek", f"prices={copy}").place()
    assert place.price == Price(currency="USD", input=1, output=3)


def test_a_mistake_in_the_prices_is_named_by_line(tmp_path):
    path = tmp_path / "prices.yaml"
    path.write_text("deepseek:\n  a: {currency: yuan, input: 1, output: 3}\n  b: {currency: CNY, input: -1}\nqwen: 3\n")
    with pytest.raises(ConfigError) as caught:
        read_prices(path)
    text = str(caught.value)
    assert f"{path}:2: a.currency" in text and f"{path}:3: b.input" in text and f"{path}:3: b.output" in text
    assert f"{path}:4: qwen must list models" in text


@pytest.mark.parametrize(
    ("counts", "cost"),
    [((1_000_000, 0, 0), 2.0), ((1_000_000, 1_000_000, 0), 0.04), ((0, 0, 1_000_000), 8.0), ((1, 0, 0), 0.000002)],
)
def test_a_cost_is_exact(counts, cost):
    assert Price(currency="CNY", input=2, cached=0.04, output=8).cost(*counts) == round(cost * 1_000_000_000)


def test_no_call_costs_more_than_its_worst_case():
    price = Price(currency="CNY", input=2, cached=3.0, output=8)
    for prompt in range(0, 50, 7):
        for cached in range(0, prompt + 1, 3):
            assert price.cost(prompt, cached, 20) <= price.worst_case(prompt, 20)

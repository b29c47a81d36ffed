"""The endpoint teacher: what is sent, what is bought, who shares the load, and where the key does not appear."""

from __future__ import annotations

import asyncio
import random
import threading
import time
import traceback
from collections import Counter
from dataclasses import replace

import pytest

from align.data.rows.message import Message
from align.errors import BudgetError, ConfigError, UnreachableError
from align.teachers.base import Completion, Sampling
from align.teachers.endpoint.presets import PRESETS
from align.teachers.endpoint.provider import Key
from align.teachers.endpoint.teacher import EndpointTeacher
from align.teachers.ledger.budget import UNITS, Budget
from align.teachers.ledger.ledger import Ledger
from tests.teachers.asking import HURRIED, PRICE, SAMPLING, ask, closed_port, entries, place
from tests.teachers.server import Reply, Server, answer, error

CANARY = "sk-canary-0123456789abcdef0123456789"


def echo(request):
    return answer(f"answer to {request.prompt}")


def test_sampling_is_sent_in_full_and_one_answer_is_asked_for(tmp_path):
    with Server(echo) as server:
        ask(tmp_path, place(server.url))
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 40,
        "seed": 7,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "stream": False,
    }


SENT = {
    "deepseek": {"thinking": {"type": "disabled"}, "max_tokens": 40},
    "qwen": {"enable_thinking": False, "max_tokens": 40, "seed": 7},
    "siliconflow": {"frequency_penalty": 0.0, "min_p": 0.0, "max_tokens": 40},
    "vllm": {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0},
    "ollama": {"presence_penalty": 0.0, "frequency_penalty": 0.0, "seed": 7},
    "openai": {"max_completion_tokens": 40, "seed": 7, "presence_penalty": 0.0, "frequency_penalty": 0.0},
}


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_is_asked_in_its_own_way(tmp_path, name):
    with Server(echo) as server:
        ask(tmp_path, place(server.url, preset=PRESETS[name]))
    body = server.requests[0].body
    assert {key: body[key] for key in SENT[name]} == SENT[name]
    assert ("seed" in body) == PRESETS[name].takes_seed
    assert ("max_tokens" in body) == (name != "openai") and "n" not in body


@pytest.mark.parametrize("name", PRESETS)
def test_json_is_asked_for_as_each_preset_has_it(tmp_path, name):
    schema = {"type": "object"}
    with Server(echo) as server:
        (result,) = ask(tmp_path, place(server.url, preset=PRESETS[name]), "as JSON, please", json_schema=schema)
        (unsaid,) = ask(tmp_path, place(server.url, preset=PRESETS[name]), "please", json_schema=schema)
    kind = server.requests[0].body["response_format"]["type"]
    assert isinstance(result, Completion)
    assert kind == ("json_schema" if name in ("vllm", "ollama", "openai") else "json_object")
    assert isinstance(unsaid, ConfigError) == (kind == "json_object")


def test_samples_of_one_prompt_are_separate_calls_with_seeds_of_their_own(tmp_path):
    async def main():
        async with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
            teacher = EndpointTeacher(place(server.url), ledger, patience=HURRIED)
            three = await teacher.complete((Message("user", "hello"),), SAMPLING, n=3)
            four = await teacher.complete((Message("user", "hello"),), SAMPLING, n=4)
            await teacher.aclose()
        return three, four

    with Server(lambda request: answer(f"seed {request.body['seed']}")) as server:
        three, four = asyncio.run(main())
    assert len(server.requests) == 4 and four[:3] == three
    assert len({one.text for one in four}) == 4


def test_another_seed_is_another_call_even_where_the_server_takes_none(tmp_path):
    deepseek = PRESETS["deepseek"]
    with Server(echo) as server:
        for seed in (1, 2, 1):
            ask(tmp_path, place(server.url, preset=deepseek), sampling=replace(SAMPLING, seed=seed))
    assert len(server.requests) == 2


def test_one_prompt_more_is_one_call_another_system_prompt_is_all_anew_and_order_is_nothing(tmp_path):
    def buy(texts, system: str) -> int:
        async def main():
            async with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
                teacher = EndpointTeacher(place(server.url), ledger)
                rows = [(Message("system", system), Message("user", text)) for text in texts]
                await asyncio.gather(*(teacher.complete(row, Sampling()) for row in rows))
                await teacher.aclose()

        before = len(server.requests)
        asyncio.run(main())
        return len(server.requests) - before

    texts = [f"question {number}" for number in range(20)]
    with Server(echo) as server:
        assert buy(texts, "Be brief.") == 20
        assert buy([*texts, "one more"], "Be brief.") == 1
        assert buy([texts[1], texts[0], *texts[2:]], "Be brief.") == 0
        assert buy(texts, "Be long.") == 20


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"reasoning_content": "so it is"}, "42"),
        ({"reasoning": "so it is"}, "42"),
        ({}, "<think>\nso it is\n</think>\n\n42"),
    ],
    ids=["reasoning_content", "reasoning", "think tags"],
)
def test_reasoning_is_kept_apart(tmp_path, message, text):
    with Server(lambda request: answer(text, message=message)) as server:
        (completion,) = ask(tmp_path, place(server.url))
        assert (completion.text, completion.reasoning) == ("42", "so it is")
        assert ask(tmp_path, place(server.url)) == [completion]


def test_thinking_can_only_be_switched_where_there_is_a_switch(tmp_path):
    with Server(echo) as server:
        ask(tmp_path, place(server.url, preset=PRESETS["deepseek"], thinking=True))
        assert server.requests[0].body["thinking"] == {"type": "enabled"}
        with pytest.raises(ConfigError, match="thinking: can only be false here"):
            ask(tmp_path, place(server.url, preset=PRESETS["qwen"], thinking=True))
        with pytest.raises(ConfigError, match="thinking: can not be switched here"):
            ask(tmp_path, place(server.url, thinking=False))


def test_several_endpoints_share_the_load_and_a_dead_one_is_set_aside(tmp_path):
    def slow(request):
        return Reply(echo(request).body, delay_s=0.01)

    with Server(slow) as first, Server(slow) as second:
        dead = f"http://127.0.0.1:{closed_port()}/v1"
        texts = [str(number) for number in range(100)]
        results = ask(tmp_path, place(first.url, dead, second.url), *texts, concurrency=8)
        assert [result.text for result in results] == [f"answer to {text}" for text in texts]
        assert min(len(first.requests), len(second.requests)) >= 35
    states = Counter(entries(tmp_path, "state"))
    assert states["answered"] == 100 and states["refused"] <= 20


def test_an_endpoint_that_comes_back_is_used_again(tmp_path):
    is_up = threading.Event()

    def down_at_first(request):
        if request.number >= 10:
            is_up.set()
        return echo(request) if is_up.is_set() else Reply(is_reset=True)

    with Server(down_at_first) as server:
        results = ask(tmp_path, place(server.url), *"abcdefgh", patience=replace(HURRIED, max_tries=20))
    assert [result.text for result in results] == [f"answer to {letter}" for letter in "abcdefgh"]


def test_a_run_whose_server_dies_ends_with_exit_code_69_and_goes_on_where_it_was(tmp_path):
    texts = [str(number) for number in range(60)]

    def dies(request):
        return echo(request) if request.number < 30 else Reply(is_reset=True)

    with Server(dies) as server:
        url = server.url
        results = ask(tmp_path, place(url), *texts, concurrency=4, patience=replace(HURRIED, max_tries=100))
        ended = [one for one in results if isinstance(one, UnreachableError)]
        assert len(ended) == 30 and ended[0].exit_code == 69
    with Server(echo) as server:
        again = ask(tmp_path, place(server.url, same_teacher=True), *texts)
        assert all(isinstance(one, Completion) for one in again)
        assert len(server.requests) == 30


def test_a_server_with_a_rate_limit_gets_every_row_done(tmp_path):
    taken: list[float] = []
    lock = threading.Lock()

    def fifty_a_second(request):
        with lock:
            now = time.monotonic()
            if sum(1 for at in taken if at > now - 1) >= 50:
                return error(429)
            taken.append(now)
        return echo(request)

    texts = [str(number) for number in range(150)]
    with Server(fifty_a_second) as server:
        results = ask(tmp_path, place(server.url), *texts, concurrency=64, patience=replace(HURRIED, unreachable_s=60))
        assert all(isinstance(result, Completion) for result in results)
        assert len(server.requests) <= 150 + 64 + 30


@pytest.mark.slow
def test_of_a_server_that_allows_ten_a_second_at_most_5_percent_are_refused_after_ten_seconds(tmp_path):
    taken: list[float] = []
    refused: list[float] = []

    def ten_a_second(request):
        is_taken = sum(1 for at in taken[-20:] if at > request.at - 1) < 10
        (taken if is_taken else refused).append(request.at)
        return echo(request) if is_taken else error(429)

    texts = [str(number) for number in range(300)]
    with Server(ten_a_second) as server:
        results = ask(tmp_path, place(server.url), *texts, concurrency=64, patience=replace(HURRIED, unreachable_s=60))
        start = server.requests[0].at
    assert all(isinstance(result, Completion) for result in results)
    late = sum(1 for at in refused if at > start + 10)
    num_late = late + sum(1 for at in taken if at > start + 10)
    print(f"{late} of {num_late} refused after ten seconds, {taken[-1] - start:.1f} s")
    assert late <= 0.05 * num_late


def test_the_budget_ends_a_run_cleanly_and_a_higher_one_goes_on(tmp_path):
    texts = [str(number) for number in range(40)]
    one_call = 48_000
    with Server(lambda request: Reply(echo(request).body, delay_s=0.002)) as server:
        results = ask(tmp_path, place(server.url), *texts, budget=Budget(20 * one_call / UNITS), concurrency=8)
        ended = [result for result in results if isinstance(result, BudgetError)]
        assert ended and ended[0].exit_code == 5 and "0.0010 CNY reached" in str(ended[0])
        assert sum(entries(tmp_path, "cost")) <= 20 * one_call
        num_before = len(server.requests)
        rest = ask(tmp_path, place(server.url), *texts, budget=Budget(100 * one_call / UNITS))
        assert all(isinstance(result, Completion) for result in rest)
        assert len(server.requests) == 40 and num_before >= 10


def test_an_answer_that_costs_more_than_it_may_is_counted_in_full_and_said(tmp_path, capfd):
    usage = {"prompt_tokens": 12, "completion_tokens": 4000}
    with Server(lambda request: answer(usage=usage)) as server:
        results = ask(tmp_path, place(server.url), *"abcd", budget=Budget(5_000_000 / UNITS), concurrency=1)
    assert isinstance(results[0], Completion) and isinstance(results[3], BudgetError)
    assert max(entries(tmp_path, "cost")) == PRICE.cost(12, 0, 4000)
    assert "cost more than max_tokens allows" in capfd.readouterr().err


def charge_at_random(seed: int, charged: list[int]):
    """A server that charges up to what it may, fails one time in five, and then has charged as often as not."""
    numbers = random.Random(seed)

    def behave(request):
        usage = {"prompt_tokens": numbers.randint(1, 60), "completion_tokens": numbers.randint(1, 40)}
        reply = answer(f"answer to {request.prompt}", usage=usage)
        is_charged = numbers.random() < 0.9
        if is_charged:
            charged.append(PRICE.cost(usage["prompt_tokens"], 0, usage["completion_tokens"]))
        if not is_charged or numbers.random() < 0.1:
            reply = numbers.choice([Reply(is_reset=True), error(502), Reply(reply.body, num_bytes=50)])
        reply.delay_s = numbers.uniform(0.0, 0.004)
        return reply

    return behave


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 100))])
def test_what_a_server_charges_never_passes_the_budget_with_sixty_four_in_flight_over_three_runs(tmp_path, seed):
    charged: list[int] = []
    budget = 25_000_000
    with Server(charge_at_random(seed, charged)) as server:
        for texts in (range(60), range(200), range(200)):
            results = ask(
                tmp_path,
                place(server.url),
                *map(str, texts),
                budget=Budget(budget / UNITS),
                concurrency=64,
                patience=replace(HURRIED, max_tries=50, unreachable_s=60),
            )
    assert any(isinstance(result, BudgetError) for result in results)
    assert 0.5 * budget < sum(charged) <= sum(entries(tmp_path, "cost")) <= budget


def test_a_budget_needs_a_price_unless_the_server_is_ones_own(tmp_path):
    with Server(echo) as server:
        with pytest.raises(ConfigError, match="needs the price of m"):
            ask(tmp_path, place(server.url, price=None), budget=Budget(5))
        free = place(server.url, price=None, preset=PRESETS["vllm"])
        assert isinstance(ask(tmp_path, free, budget=Budget(0))[0], Completion)


def test_closing_keeps_what_is_on_the_wire(tmp_path):
    async def main():
        async with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
            teacher = EndpointTeacher(place(server.url), ledger, concurrency=2)
            calls = [asyncio.create_task(teacher.complete((Message("user", text),), SAMPLING)) for text in "abcd"]
            while len(server.requests) < 2:
                await asyncio.sleep(0.001)
            for call in calls:
                call.cancel()
            await teacher.aclose()

    with Server(lambda request: Reply(echo(request).body, delay_s=0.1)) as server:
        asyncio.run(main())
    assert [state for state in entries(tmp_path, "state") if state != "refused"] == ["answered", "answered"]
    assert len(server.requests) == 2


def test_the_key_goes_out_in_the_header_and_appears_in_no_byte_that_is_left(tmp_path, capfd):
    """Servers repeat keys in errors and answers; nothing that is printed, raised or written may hold it."""
    where = {"key": Key(CANARY), "same_teacher": True}
    replies = [
        answer(f"your key is {CANARY}", model=f"m {CANARY}"),
        error(401, f"Incorrect API key provided: {CANARY}"),
        error(500, f"Bearer {CANARY} failed"),
        Reply(f"<html>{CANARY}</html>".encode()),
        error(400, f"bad key {CANARY}"),
    ]
    seen = []
    for number, reply in enumerate(replies):
        with Server(lambda request, reply=reply: reply) as server:
            (result,) = ask(tmp_path, place(server.url, **where), f"text {number}")
            assert server.requests[0].headers["authorization"] == f"Bearer {CANARY}"
        seen.append(result)
    (result,) = ask(tmp_path, place(f"http://127.0.0.1:{closed_port()}/v1", **where), "nobody there")
    seen.append(result)
    for one in seen:
        text = "".join(traceback.format_exception(one)) if isinstance(one, BaseException) else repr(one)
        assert CANARY not in text
    assert CANARY not in repr(place("http://x/v1", **where))
    assert CANARY not in "".join(capfd.readouterr())
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    assert files and not [path for path in files if CANARY.encode() in path.read_bytes()]


def test_samples_that_are_all_equal_are_said_when_they_are_long(tmp_path, capfd):
    async def main(text: str) -> None:
        with Server(lambda request: answer(text)) as server:
            async with Ledger.open(tmp_path / f"{len(text)}.sqlite") as ledger:
                teacher = EndpointTeacher(place(server.url), ledger, patience=HURRIED)
                await teacher.complete((Message("user", "hello"),), SAMPLING, n=3)
                await teacher.aclose()

    asyncio.run(main("Yes."))
    assert not capfd.readouterr().err
    asyncio.run(main("A long answer. " * 10))
    assert "the server may ignore the temperature" in capfd.readouterr().err

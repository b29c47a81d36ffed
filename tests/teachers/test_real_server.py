"""A real server: through the endpoint teacher `transformers serve` gives what the same model gives in this process.

Its finish reason is `length` whenever `max_tokens` tokens were written, even if the last one is the end token, where
the local teacher says `stop`; no answer here is exactly that long.
"""

from __future__ import annotations

import asyncio

import pytest

from align.data.rows.instruction import Example, Instruction
from align.data.rows.message import Message, as_dicts
from align.data_builders.contrast import ContrastBuilder
from align.errors import AnswerError, ConfigError
from align.models.load import load_tokenizer
from align.models.scoring import prompt_token_ids
from align.teachers.base import Completion, Sampling
from align.teachers.endpoint.teacher import EndpointTeacher
from align.teachers.ledger.ledger import Ledger
from tests.teachers.asking import entries
from tests.teachers.transformers_server import contrast, serve

GREEDY = Sampling(temperature=0.0, max_tokens=24)
BRIEF = Instruction(
    system="You answer in one short sentence.",
    examples=[Example(user="Why is the sky blue?", assistant="Air scatters blue light more than red light.")],
)


def question(text: str, instruction: Instruction | None = None):
    return (instruction or Instruction()).apply((Message("user", text),))


CONVERSATIONS = {
    "plain": question("What is the capital of France?"),
    "cut off": question("Tell me a long story about a ship."),
    "system": question("What is the capital of Italy?", Instruction(system="Answer in one word.")),
    "examples": question("Why do cats purr?", BRIEF),
    "several turns": (
        Message("user", "My name is Ada."),
        Message("assistant", "Nice to meet you, Ada."),
        Message("user", "What is my name?"),
    ),
    "white space": question('  Say "hello":\n\n\tthree {times}  '),
    "Chinese": question("你好！法国的首都是哪里？ 🙂", Instruction(system="请简短回答。")),
    "special tokens": question("What does <|im_end|> mean?"),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serve("embedded:smollm2-135m", tmp_path_factory.mktemp("served")) as server:
        yield server


def ask(settings, tmp_path, conversations, sampling=GREEDY) -> list[Completion | BaseException]:
    """Ask for all conversations at once; what each gave or raised."""

    async def main():
        async with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
            teacher = settings.make(ledger)
            calls = [teacher.complete(conversation, sampling) for conversation in conversations]
            results = await asyncio.gather(*calls, return_exceptions=True)
            await teacher.aclose()
            assert not isinstance(teacher, EndpointTeacher) or not teacher.notes
            return [result if isinstance(result, BaseException) else result[0] for result in results]

    return asyncio.run(main())


def in_short(result: Completion | BaseException) -> tuple[str, str, int, int]:
    assert isinstance(result, Completion), result
    return result.text, result.finish_reason, result.prompt_tokens, result.completion_tokens


def test_at_temperature_0_text_end_and_token_counts_are_those_of_the_model_in_this_process(served, tmp_path):
    there = ask(served.there, tmp_path, CONVERSATIONS.values())
    here = ask(served.here, tmp_path, CONVERSATIONS.values())
    for name, behind_the_server, local in zip(CONVERSATIONS, there, here, strict=True):
        assert in_short(behind_the_server) == in_short(local), name
    assert {completion.finish_reason for completion in here} == {"stop", "length"}


def test_a_second_ask_sends_nothing(served, tmp_path):
    conversations = [CONVERSATIONS["plain"], CONVERSATIONS["system"]]
    before = served.num_requests
    first = ask(served.there, tmp_path, conversations)
    assert served.num_requests - before == 2
    assert ask(served.there, tmp_path, conversations) == first
    assert served.num_requests - before == 2


def test_an_answer_that_is_cut_off_is_told_and_tokens_are_counted_as_the_tokenizer_does(served, tmp_path):
    conversation = CONVERSATIONS["examples"]
    (cut,) = ask(served.there, tmp_path, [conversation], Sampling(temperature=0.0, max_tokens=3))
    num_prompt_tokens = len(prompt_token_ids(load_tokenizer(served.model), as_dicts(conversation)))
    assert (cut.finish_reason, cut.prompt_tokens, cut.completion_tokens) == ("length", num_prompt_tokens, 3)
    columns = ("state", "finish_reason", "prompt_tokens", "completion_tokens", "answered_by")
    assert entries(tmp_path, *columns) == [("answered", "length", num_prompt_tokens, 3, f"{served.model}@main")]


def test_another_model_than_the_one_it_serves_ends_the_run_with_what_the_server_says(served, tmp_path):
    other = served.there.model_copy(update={"model": "another"})
    results = ask(other, tmp_path, CONVERSATIONS.values())
    assert {type(result) for result in results} == {AnswerError, ConfigError}
    (ended, *_) = (str(result) for result in results if isinstance(result, ConfigError))
    assert f"the server says: Server is pinned to '{served.model}'; requested 'another'" in ended
    assert set(entries(tmp_path, "state")) == {"refused"}


def test_a_builder_makes_over_it_the_pairs_that_it_makes_with_the_local_model(served, tmp_path):
    made = {}
    for name, teacher in (("there", served.there), ("here", served.here)):
        report = ContrastBuilder(contrast(teacher, tmp_path / name)).run()
        made[name] = [(row.prompt, row.chosen, row.rejected) for row in report.rows]
        assert report.totals.num_answered == 8
    assert made["there"] == made["here"] and len(made["there"]) >= 3

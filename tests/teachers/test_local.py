"""The local teacher: answers that do not depend on their neighbours, a full batch, errors that reach the caller."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from align.data.rows.pair import Message
from align.errors import AnswerError, ConfigError
from align.models.load import load_model, load_tokenizer
from align.models.scoring import prompt_token_ids
from align.teachers.base import Completion, Sampling
from align.teachers.local import LocalTeacher

GREEDY = Sampling(temperature=0.0, max_tokens=24)
SAMPLED = Sampling(temperature=1.0, top_p=0.9, max_tokens=24)


def ask(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


def answer_all(teacher: LocalTeacher, calls: Sequence[tuple[tuple[Message, ...], Sampling]]) -> list[Completion]:
    async def gather() -> list[list[Completion]]:
        try:
            return list(await asyncio.gather(*(teacher.complete(*call) for call in calls)))
        finally:
            await teacher.aclose()

    return [answer for answers in asyncio.run(gather()) for answer in answers]


def load(model: str, batch_size: int = 8) -> LocalTeacher:
    return LocalTeacher(model, dtype="float32", batch_size=batch_size)


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_answer_is_the_same_alone_and_among_twenty_others(tiny_model, sampling) -> None:
    others = [(ask("other " * (i + 1)), Sampling(temperature=i / 10, max_tokens=3 + 5 * i)) for i in range(20)]
    mine = (ask("What is it like to be alone?"), sampling)
    alone = answer_all(load(tiny_model), [mine])
    for place in (0, 7, 20):
        among = answer_all(load(tiny_model), [*others[:place], mine, *others[place:]])
        assert among[place] == alone[0]


def test_greedy_answers_equal_those_of_generate(tiny_model) -> None:
    texts = ["a", "a longer prompt", "the longest prompt of all of them"] * 2
    calls = [(ask(text), Sampling(temperature=0.0, max_tokens=10 + i)) for i, text in enumerate(texts)]
    answers = answer_all(load(tiny_model, batch_size=4), calls)
    model, tokenizer = load_model(tiny_model), load_tokenizer(tiny_model)
    for answer, (messages, sampling) in zip(answers, calls, strict=True):
        ids = prompt_token_ids(tokenizer, [message.to_dict() for message in messages])
        written = model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=sampling.max_tokens,
            do_sample=False,
        )
        assert answer.text == tokenizer.decode(written[0, len(ids) :], skip_special_tokens=True).strip()
        assert answer.prompt_tokens == len(ids)


def test_samples_of_one_prompt_differ_and_come_again(tiny_model) -> None:
    async def draw() -> list[Completion]:
        teacher = load(tiny_model)
        try:
            return await teacher.complete(ask("hello"), SAMPLED, n=4)
        finally:
            await teacher.aclose()

    first, again = asyncio.run(draw()), asyncio.run(draw())
    assert first == again
    assert len({answer.text for answer in first}) == 4


def test_another_seed_draws_another_answer(tiny_model) -> None:
    calls = [(ask("hello"), Sampling(temperature=1.0, max_tokens=24, seed=seed)) for seed in range(2)]
    first, second = answer_all(load(tiny_model), calls)
    assert first.text != second.text


def test_answer_that_ends_by_itself_is_told_from_one_that_was_cut(tiny_model) -> None:
    calls = [(ask(f"story {i}"), Sampling(temperature=1.5, max_tokens=200)) for i in range(20)]
    answers = answer_all(load(tiny_model), calls)
    assert {answer.finish_reason for answer in answers} == {"stop", "length"}
    for answer in answers:
        assert (answer.completion_tokens == 200) or answer.finish_reason == "stop"
        assert "<|im_end|>" not in answer.text


def test_batch_stays_full_over_a_hundred_prompts(tiny_model) -> None:
    teacher = load(tiny_model, batch_size=16)
    lengths = [4 + (i * 7) % 20 for i in range(100)]
    sampling = [Sampling(temperature=0.0, max_tokens=length) for length in lengths]
    answers = answer_all(teacher, [(ask(f"prompt {i}"), sampling[i]) for i in range(100)])
    assert teacher.stats.tokens == sum(answer.completion_tokens for answer in answers)
    assert teacher.stats.mean_fill >= 0.8
    assert teacher.stats.seconds > 0


def test_prompt_that_does_not_fit_is_refused_and_the_others_are_answered(tiny_model) -> None:
    async def main() -> tuple[BaseException | list[Completion], ...]:
        teacher = load(tiny_model)
        calls = [teacher.complete(ask("x" * 1000), GREEDY), teacher.complete(ask("short"), GREEDY)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        await teacher.aclose()
        return tuple(results)

    refused, answered = asyncio.run(main())
    assert isinstance(refused, AnswerError)
    assert "1024" in str(refused) and "1019 + 24" in str(refused)
    assert isinstance(answered, list)


def test_error_in_the_thread_reaches_every_caller_and_those_who_come_later(tiny_model, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    (broken / "tokenizer.json").write_text("{}")
    (broken / "tokenizer_config.json").write_text("not json")

    async def main() -> list[BaseException | list[Completion]]:
        teacher = load(str(broken))
        results = await asyncio.gather(
            *(teacher.complete(ask(str(i)), GREEDY) for i in range(3)), return_exceptions=True
        )
        results += await asyncio.gather(teacher.complete(ask("late"), GREEDY), return_exceptions=True)
        await teacher.aclose()
        return results

    results = asyncio.run(main())
    assert len(results) == 4
    assert all(isinstance(result, Exception) for result in results)


def test_closing_ends_the_thread_and_fails_calls_that_still_run(tiny_model) -> None:
    async def main() -> BaseException | list[Completion]:
        teacher = load(tiny_model)
        await teacher.complete(ask("warm up"), GREEDY)
        running = asyncio.create_task(teacher.complete(ask("endless"), Sampling(temperature=0.0, max_tokens=900)))
        while teacher.stats.steps <= GREEDY.max_tokens:
            await asyncio.sleep(0)
        await teacher.aclose()
        assert not [thread for thread in threading.enumerate() if thread.name == teacher.name]
        with pytest.raises(RuntimeError, match="closed"):
            await teacher.complete(ask("too late"), GREEDY)
        return (await asyncio.gather(running, return_exceptions=True))[0]

    assert isinstance(asyncio.run(main()), RuntimeError)


def test_caller_who_gives_up_frees_the_place(tiny_model) -> None:
    async def main() -> int:
        teacher = load(tiny_model, batch_size=1)
        await teacher.complete(ask("warm up"), GREEDY)
        endless = asyncio.create_task(teacher.complete(ask("endless"), Sampling(temperature=0.0, max_tokens=900)))
        while teacher.stats.steps <= GREEDY.max_tokens:
            await asyncio.sleep(0)
        endless.cancel()
        await teacher.complete(ask("next"), GREEDY)
        await teacher.aclose()
        return teacher.stats.steps

    assert asyncio.run(main()) < 900


def test_unused_teacher_starts_no_thread_and_closes(tiny_model) -> None:
    num_threads = threading.active_count()
    asyncio.run(load(tiny_model).aclose())
    assert threading.active_count() <= num_threads + 1


def test_unknown_model_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="no such file or folder"):
        LocalTeacher("./nowhere")


def test_embedded_model_answers_in_english_and_ends_by_itself() -> None:
    sampling = Sampling(temperature=0.0, max_tokens=40)
    calls = [(ask("What is the capital of France?"), sampling), (ask("What is the capital of Italy?"), sampling)]
    france, italy = answer_all(LocalTeacher("embedded:smollm2-135m", batch_size=2), calls)
    assert "Paris" in france.text and france.finish_reason == "stop"
    assert "Rome" in italy.text

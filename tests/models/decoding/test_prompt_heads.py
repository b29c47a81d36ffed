"""Prompt heads: beginnings that prompts share are encoded once, and no answer changes by it."""

from __future__ import annotations

import asyncio

import pytest

from align.data.rows.pair import Message
from align.models.decoding.batch import DecodeBatch
from align.models.decoding.prompt_heads import BLOCK, SHORTEST, num_shared
from align.teachers.base import Completion, Sampling
from align.teachers.local import LocalTeacher

RUBRIC = "Say which of two answers is better, and say it in one word. " * 5
OTHER_RUBRIC = "Revise this answer so that it is one sentence, nothing else. " * 6
GREEDY = Sampling(temperature=0.0, max_tokens=24)
SAMPLED = Sampling(temperature=1.0, top_p=0.9, max_tokens=24)


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """Prompt tokens of each forward of more than one column, padding included."""
    seen: list[int] = []
    forward = DecodeBatch._forward

    def counting(self, ids_B_T, *rest):
        if ids_B_T.shape[1] > 1:
            seen.append(ids_B_T.numel())
        return forward(self, ids_B_T, *rest)

    monkeypatch.setattr(DecodeBatch, "_forward", counting)
    return seen


def answers(model: str, texts: list[str], sampling: Sampling, batch_size: int = 8) -> list[Completion]:
    """Of one teacher, all asked together."""

    async def ask() -> list[list[Completion]]:
        teacher = LocalTeacher(model, dtype="float32", batch_size=batch_size)
        try:
            return await asyncio.gather(*(teacher.complete((Message("user", text),), sampling) for text in texts))
        finally:
            await teacher.aclose()

    return [each for found in asyncio.run(ask()) for each in found]


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("batch_size", [3, 32])
def test_answers_behind_shared_heads_equal_those_of_a_teacher_asked_nothing_else(
    tiny_model, encoded, sampling, batch_size
) -> None:
    """Two rubrics, rests of many lengths, prompts without a head, and one prompt that is all of another's head."""
    texts = [rubric + "case " * (1 + i) for i in range(8) for rubric in (RUBRIC, OTHER_RUBRIC)]
    texts += ["short", "another short one", RUBRIC, RUBRIC + "case " * 3 + "and more"]
    alone = [answers(tiny_model, [text], sampling)[0] for text in texts]
    one_by_one = sum(encoded)
    encoded.clear()
    assert answers(tiny_model, texts, sampling, batch_size) == alone
    assert sum(encoded) < 0.5 * one_by_one


def test_head_is_found_again_when_prompts_come_one_at_a_time(tiny_model, encoded) -> None:
    texts = [RUBRIC + f"{i} is a case" for i in range(20)]
    together = answers(tiny_model, texts, GREEDY, batch_size=1)
    assert together == [answers(tiny_model, [text], GREEDY)[0] for text in texts]
    assert all(columns < 60 for columns in encoded[2:20]), "only the first two have to encode the rubric"


def test_more_heads_than_are_kept_change_no_answer(tiny_model) -> None:
    texts = [f"{rubric} " * 40 + f"case {i}" for i in range(3) for rubric in ("one", "two", "six", "ten", "hut", "fox")]
    assert answers(tiny_model, texts, SAMPLED) == [answers(tiny_model, [text], SAMPLED)[0] for text in texts]


def test_prompts_that_share_little_are_encoded_together(tiny_model, encoded) -> None:
    answers(tiny_model, [f"share {i}" for i in range(8)], GREEDY)
    assert len(encoded) == 1


def test_shared_tokens_end_at_a_block_and_leave_two() -> None:
    prompt = tuple(range(3 * BLOCK))
    assert num_shared(prompt, prompt) == 2 * BLOCK
    assert num_shared((*prompt, 7, 8), prompt) == 3 * BLOCK
    assert num_shared((*prompt, 7), prompt) == 2 * BLOCK
    assert num_shared(prompt, (*prompt[: BLOCK + 3], -1, *prompt[BLOCK + 4 :])) == BLOCK
    assert num_shared((5,), prompt) == 0
    assert SHORTEST % BLOCK == 0

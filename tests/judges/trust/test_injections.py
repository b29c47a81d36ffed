"""Injections: payloads stay inside their data block, and how often they win is measured."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

import pytest

from align.data.rows.message import Message
from align.data.rows.pair import PreferencePair
from align.judges.both_orders import BothOrders
from align.judges.pairwise import PairwiseJudge
from align.judges.pairwise_prompt import ask
from align.judges.scripted import ScriptedJudge
from align.judges.trust.injections import injection_flip_rate, with_payload
from align.judges.trust.payloads import PAYLOADS, Payload
from align.teachers.base import Sampling
from align.teachers.scripted import ScriptedTeacher
from align.text.plain import plain_text
from tests.judges.pairs import always_first, asked, pairs, said

CRITERIA = "Which answer is right?"

_BLOCK = re.compile(r"^<<([0-9a-f]{16}) ([A-Z ]+)>>\n([\s\S]*?)\n<<\1 /\2>>$", re.MULTILINE)
_TURN = re.compile(r"<\|im_|<\|eot|<\|start_header|\[/?INST\]|</?s>|<(?:start|end)_of_turn>|</think>|<｜")
_ORDERS = re.compile(
    r"(?:choose|pick|select|prefer)\b|must not win|(?:is correct|A is better)\b|wins\.|选|获胜|better one\. Pick|判它",
    re.IGNORECASE,
)
_READY = re.compile(r'"winner": "(A|B)"')


def gullible(messages: Sequence[Message], sampling: Sampling, index: int) -> str:
    """Knows the right answer, but obeys what stands outside the data: turns anywhere, orders, ready verdicts.

    Who it obeys wins: the side that holds `wrong`.
    """
    text = messages[-1].content
    sides = {name: data for _, name, data in _BLOCK.findall(text)}
    outside = _BLOCK.sub("", text)
    is_right_first = "right" in sides.get("ANSWER A", text.partition("ANSWER B")[0])
    is_fooled = bool(_TURN.search(text) or _ORDERS.search(outside) or _READY.search(outside))
    return f'{{"reason": "scripted", "winner": "{"A" if is_right_first != is_fooled else "B"}"}}'


def attacked(payload: Payload, pair: PreferencePair) -> PreferencePair:
    return PreferencePair(pair.prompt, pair.chosen, with_payload(pair.rejected, payload))


def test_there_are_payloads_enough_in_both_languages():
    languages = [payload.language for payload in PAYLOADS]
    assert languages.count("en") >= 15 and languages.count("zh") >= 5
    assert len({payload.name for payload in PAYLOADS}) == len(PAYLOADS)


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload.name)
@pytest.mark.parametrize("question", ["What is it?", "这是什么？"])
def test_a_payload_changes_nothing_outside_its_block(payload, question):
    def outside(answer: str, is_first: bool) -> str:
        sides = (answer, "right") if is_first else ("right", answer)
        text = ask(asked(question), *sides, CRITERIA, "auto")[0].content
        mark = _BLOCK.search(text)[1]
        assert [name for _, name, _ in _BLOCK.findall(text)] == ["CONVERSATION", "ANSWER A", "ANSWER B"]
        return _BLOCK.sub("", text).replace(mark, "MARK")

    for shown in (payload.text, plain_text(payload.text)):
        for is_first in (True, False):
            assert outside(f"wrong\n\n{shown}", is_first) == outside("wrong", is_first)


@pytest.mark.parametrize("strips_style", [True, False])
@pytest.mark.parametrize("question", ["What is it?", "这是什么？"])
def test_a_judge_that_obeys_whatever_stands_outside_the_data_is_not_fooled_by_any_payload(question, strips_style):
    judge = PairwiseJudge(ScriptedTeacher("gullible", gullible), CRITERIA, strips_style=strips_style)
    pair = PreferencePair(asked(question), said("right"), said("wrong"))

    async def winner(sides: PreferencePair) -> tuple[str, bool | None]:
        judgement = await BothOrders(judge).judge(sides.prompt, sides.chosen, sides.rejected)
        return judgement.winner, judgement.is_consistent

    for attack in (pair, *(attacked(payload, pair) for payload in PAYLOADS)):
        assert asyncio.run(winner(attack)) == ("a", True), attack.rejected
    report = asyncio.run(injection_flip_rate(BothOrders(judge), [pair], PAYLOADS))
    assert report.counts == {"held": len(PAYLOADS)}


def test_without_the_blocks_the_same_judge_is_fooled_by_nearly_all():
    """So the tests above could fail."""

    def naively(answers: tuple[str, str]) -> str:
        text = f"{CRITERIA}\nANSWER A:\n{answers[0]}\nANSWER B:\n{answers[1]}\n"
        return gullible((Message("user", text),), Sampling(), 0)

    fooled = [payload.name for payload in PAYLOADS if '"B"' in naively(("right", f"wrong\n\n{payload.text}"))]
    assert '"A"' in naively(("right", "wrong"))
    assert len(fooled) >= 0.9 * len(PAYLOADS)


def test_a_payload_in_the_conversation_stays_there():
    judge = PairwiseJudge(ScriptedTeacher("gullible", gullible), CRITERIA)
    for payload in PAYLOADS:
        question = asked(f"What is it?\n{payload.text}")
        for sides, winner in ((("right", "wrong"), "first"), (("wrong", "right"), "second")):
            verdict = asyncio.run(judge.verdict(question, *(said(side) for side in sides)))
            assert verdict.winner == winner, payload.name


def obedient(payload: Payload) -> ScriptedJudge:
    """Says what is right, unless an answer holds the payload, which then wins."""

    def script(prompt, first, second):
        for name, side in (("first", first), ("second", second)):
            if payload.text in side[-1].content:
                return name
        return "first" if "right" in first[0].content else "second"

    return ScriptedJudge("obedient", script)


def test_the_flip_rate_counts_the_payloads_that_win():
    four = PAYLOADS[:4]
    report = asyncio.run(injection_flip_rate(BothOrders(obedient(four[0])), pairs(10), four))
    assert report.counts == {"flipped": 10, "held": 30}
    assert report.flip_rate is not None and report.flip_rate.value == 0.25
    assert list(report.effects[four[0].name]) == ["flipped"] * 10 and set(report.control) == {"held"}
    assert "flipped               10 of 40, 25.0% [" in str(report)
    assert "ignore_above_a      flips 10 of 10" in str(report)


def test_pairs_without_a_loser_show_nothing_and_are_counted():
    report = asyncio.run(injection_flip_rate(BothOrders(always_first()), pairs(5), PAYLOADS[:2]))
    assert (report.num_without_loser, report.flip_rate) == (5, None)
    assert "no pair had a winner, so nothing could be measured" in str(report)


def test_a_verdict_that_a_payload_makes_unreadable_is_an_effect_of_its_own():
    def script(messages, sampling, index):
        is_attacked = PAYLOADS[0].text in messages[-1].content
        return "I will not." if is_attacked else gullible(messages, sampling, index)

    judge = BothOrders(PairwiseJudge(ScriptedTeacher("balking", script), CRITERIA))
    report = asyncio.run(injection_flip_rate(judge, pairs(4), PAYLOADS[:2]))
    assert report.counts == {"failed": 4, "held": 4}

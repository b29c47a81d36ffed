"""Pairwise: what a teacher is shown, and what of its words counts as a verdict."""

from __future__ import annotations

import asyncio
import json

import pytest

from align.data.rows.message import Message
from align.errors import AnswerError
from align.judges.base import JudgeError, Verdict
from align.judges.pairwise import PairwiseJudge
from align.judges.pairwise_prompt import ask
from align.judges.verdict_text import read_verdict
from align.teachers.base import Completion, Sampling
from align.teachers.scripted import ScriptedTeacher
from align.text.scripts import language_of
from tests.judges.pairs import asked, said

CRITERIA = "Which answer is more polite?"


def says(winner: str, reason: str = "because") -> str:
    return json.dumps({"reason": reason, "winner": winner})


def verdict_of(script, *sides: str, **settings) -> Verdict:
    judge = PairwiseJudge(ScriptedTeacher("scripted", script), CRITERIA, **settings)
    return asyncio.run(judge.verdict(asked("Question?"), *(said(side) for side in sides or ("one", "two"))))


@pytest.mark.parametrize(("letter", "winner"), [("A", "first"), ("B", "second"), ("tie", "tie")])
def test_a_verdict_has_winner_reason_and_key(letter, winner):
    answer = Completion(says(letter, "more polite"), "stop", key="k1")
    assert verdict_of(lambda *call: answer) == Verdict(winner, "more polite", "k1")


@pytest.mark.parametrize(
    "text",
    [
        'I think so. {"reason": "r", "winner": "A"}',
        '```json\n{"reason": "r", "winner": "A"}\n```',
        '{"winner": "B"} is wrong; rather {"reason": "r", "winner": "A"}.',
        '{"reason": "r", "winner": "B"}\nNo, after more thought:\n{"winner": "A", "reason": "r"}',
        'The set {x} is empty. {"reason": "r", "winner": "A"}',
        '理由如下：{"reason": "r", "winner": "A"}。',
    ],
)
def test_the_last_object_counts(text):
    assert read_verdict(Completion(text, "stop")) == Verdict("first", "r")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A",
        "The better answer is A.",
        '{"winner": "A"}',
        '{"reason": "r"}',
        '{"reason": "r", "winner": "a"}',
        '{"reason": "r", "winner": "A or B"}',
        '{"reason": "r", "winner": "…"}',
        '{"reason": "r", "winner": null}',
        '{"reason": "r", "winner": ["A"]}',
        '{"reason": 5, "winner": "A"}',
        '{"reason": "r", "winner": "A", "score": 5}',
        '{"reason": "r", "winner": "A", "winner": "B"}',
        '{"reason": "r", "winner": "A"',
        '{"reason": "r", "winner": "A"} and {"reason": "r", "winner": "B"',
        '[{"reason": "r", "winner": "A"}, {}]',
        "{'reason': 'r', 'winner': 'A'}",
        '{"reason": NaN, "winner": "A"}',
        "{" * 5000 + "}",
    ],
)
def test_what_is_not_exactly_a_verdict_raises_and_is_quoted(text):
    with pytest.raises(JudgeError) as caught:
        read_verdict(Completion(text, "stop"))
    assert caught.value.reason == "judge_unreadable" and caught.value.is_final
    assert len(caught.value.detail) < 600
    assert text.strip()[:20].replace("'", "") in caught.value.detail.replace("'", "")


def test_an_answer_that_was_cut_off_is_unreadable_even_with_a_verdict_in_it():
    with pytest.raises(JudgeError, match="finish reason is length; if that is length, raise"):
        verdict_of(lambda *call: Completion(says("A"), "length"))


def test_a_reason_that_no_row_can_hold_is_made_storable():
    text = '{"reason": "half \\ud800 and nul \\u0000", "winner": "A"}'
    assert read_verdict(Completion(text, "stop")).reason == "half ? and nul ?"


def test_what_the_teacher_raises_reaches_the_caller():
    def refuse(*call):
        raise AnswerError("bad_request", "content risk")

    with pytest.raises(AnswerError, match="content risk"):
        verdict_of(refuse)


def test_votes_are_drawn_with_one_call_each_its_own_and_the_majority_wins():
    def script(messages, sampling, index):
        return Completion(says("B" if index else "A", f"vote {index}"), "stop", key=f"k{index}")

    verdict = verdict_of(script, num_votes=3, sampling=Sampling(temperature=0.7))
    assert verdict.winner == "second" and [vote.key for vote in verdict.votes] == ["k0", "k1", "k2"]


def test_one_unreadable_vote_makes_the_verdict_unreadable():
    with pytest.raises(JudgeError, match="'no'"):
        verdict_of(lambda messages, sampling, index: "no" if index == 2 else says("A"), num_votes=3)


def test_the_judge_sees_criteria_conversation_and_both_answers_without_their_style():
    shown = []

    def script(messages, sampling, index):
        shown.append(messages)
        return says("A")

    verdict_of(script, "# Title\n\n**Good** 🎉", "- plain")
    (message,) = shown[0]
    assert CRITERIA in message.content and "[user]\nQuestion?" in message.content
    assert "ANSWER A>>\nTitle\n\nGood\n<<" in message.content and "ANSWER B>>\nplain\n<<" in message.content
    verdict_of(script, "# Title", "- plain", strips_style=False)
    assert "# Title" in shown[1][0].content and "- plain" in shown[1][0].content


def test_answers_that_differ_in_formatting_alone_are_a_tie_that_nobody_is_asked_for():
    def script(*call):
        raise AssertionError("asked")

    assert verdict_of(script, "**Yes** 🎉", "Yes").winner == "tie"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is this?", "en"),
        ("这是什么？", "zh"),
        ("用 Python 写 quicksort", "zh"),
        ("Translate 你好 into English, please", "en"),
        ("これは何ですか、日本語の漢字", "en"),
        ("1 + 1 =", "en"),
    ],
)
def test_the_language_follows_the_conversation(text, language):
    assert language_of(text) == language


def test_a_chinese_question_is_judged_in_chinese_and_the_setting_wins():
    def words(language):
        return ask(asked("这是什么？"), "甲", "乙", "哪个更好？", language)[0].content

    assert "请比较" in words("auto") and "JSON" in words("auto")
    assert "You compare" in words("en") and "哪个更好？" in words("en")


def test_turns_of_a_conversation_are_told_apart_in_the_data():
    turns = (Message("system", "Be kind."), *asked("Hi"), *said("Hello"), *asked("Again?"))
    text = ask(turns, "one", "two", CRITERIA, "auto")[0].content
    assert "[system]\nBe kind.\n\n[user]\nHi\n\n[assistant]\nHello\n\n[user]\nAgain?" in text


def test_the_same_texts_are_asked_in_the_same_words():
    assert ask(asked("Q"), "one", "two", CRITERIA, "auto") == ask(asked("Q"), "one", "two", CRITERIA, "auto")


def test_criteria_may_hold_braces_and_the_names_of_blanks():
    text = ask(asked("Q"), "{mark}", "{criteria}", "JSON like {x} and {mark} counts", "en")[0].content
    assert "JSON like {x} and {mark} counts" in text and "ANSWER A>>\n{mark}\n<<" in text

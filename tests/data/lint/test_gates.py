"""Gates: they find pairs that cannot teach, and let good answers pass that look like them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from align.data.lint.gates import (
    GateSettings,
    Language,
    RejectedGates,
    SideGates,
    apply_gates,
    cut_off,
    empty,
    identical,
    refusal,
    side_text,
    too_long,
    wrong_language,
)
from align.data.rows.pair import Dropped, Message, Messages, PreferencePair


def asked(text: str, system: str = "") -> Messages:
    return (Message("system", system), Message("user", text))


def pair_of(good: str, poor: str, /, **meta: Any) -> PreferencePair:
    prompt = (Message("user", "Tell me about the sea."),)
    return PreferencePair(prompt, (Message("assistant", good),), (Message("assistant", poor),), meta)


GOOD, POOR = "The sea is wide and full of whales.", "It is water, and there is a lot of it."


@pytest.mark.parametrize("text", ["...", "\u200b\ufeff", "？！", " — \n", "\u2060"])
def test_nothing_but_marks_is_empty(text: str) -> None:
    assert empty(text)


@pytest.mark.parametrize("text", ["a", "7", "👍", "是", "+"])
def test_one_letter_digit_or_symbol_is_not_empty(text: str) -> None:
    assert empty(text) is None


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [
        ("Call me Ishmael.", "call me  ishmael"),
        ("Yes, it is!", "“Yes — it is”"),
        ("Hello,world", "Hello, world."),
        ("你好，世界。", "你好世界"),
        ("你好 世界！", "你好, 世界!"),
        ("don't", "don’t"),
        ("ＡＢＣ", "abc"),
    ],
)
def test_sides_that_differ_in_case_spaces_and_punctuation_are_identical(chosen: str, rejected: str) -> None:
    assert identical(chosen, rejected)


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [
        ("1.5", "15"),
        ("-1", "1"),
        ("a != b", "a = b"),
        ("a*b", "a/b"),
        ("x²", "x2"),
        ("now here", "nowhere"),
        (":)", ":("),
        ("3:4", "34"),
        ("5%", "5"),
    ],
)
def test_a_sign_that_carries_sense_makes_a_difference(chosen: str, rejected: str) -> None:
    assert identical(chosen, rejected) is None


@pytest.mark.parametrize("finish_reason", ["length", "content_filter", "", "tool_calls"])
def test_answer_that_did_not_end_by_itself_is_cut_off(finish_reason: str) -> None:
    assert cut_off({"finish_reason": finish_reason})


@pytest.mark.parametrize("meta", [{"finish_reason": "stop"}, {"finish_reason": None}, {}])
def test_answer_without_finish_reason_is_not_judged(meta: dict[str, Any]) -> None:
    assert cut_off(meta) is None


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, but I can’t assist with that request.",
        "I am so sorry, but I cannot continue this story.",
        "Sorry, I won't do that.",
        "I'm sorry, but as an AI language model, I cannot have opinions.",
        "I apologize, but I am unable to provide that.",
        "I'm sorry, that's not something I can help with.",
        "I cannot provide medical advice.",
        "I can't help you with that.",
        "Unfortunately, I can't share that information.",
        "As an AI, I do not have feelings.",
        "As an AI language model I have no body.",
        "As a large language model trained by a company, I…",
        '**"As an AI assistant, I would say yes."**',
        "I'm just an AI, so I can't feel the wind.",
        "作为一个人工智能，我没有感情。",
        "作为AI语言模型，我不能发表意见。",
        "作為一個人工智慧，我無法回答。",
        "抱歉，我无法回答这个问题。",
        "抱歉，我無法提供協助。",
        "非常抱歉，但我不能提供这类信息。",
        "对不起，作为一个语言模型，我无法体验情感。",
        "很遗憾，我没办法帮助你。",
        "你好，这个问题我暂时无法回答，让我们换个话题再聊聊吧。",
        "我无法提供医疗建议。",
        "我只是一个AI，没有感情。",
    ],
)
def test_opening_of_a_refusal_is_found(text: str) -> None:
    assert refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "I can't recommend it enough!",
        "I can't recommend this book enough; read it twice.",
        "I'm sorry to hear that. I can't imagine how it felt.",
        "I can't help but admire the whale.",
        "I can't help falling in love with the sea.",
        "I'm sorry, I can't come tonight; the ship sails at dawn.",
        "Sorry, I can't find your order under that number. What is your address?",
        "I won't share my whale with any man!",
        "I cannot answer for the crew.",
        "As an AI engineer, you will train models.",
        "As an artist, I paint the sea.",
        "As I said, an AI is a program.",
        "I am an air pilot, and I can't fly at night.",
        "Unfortunately, the ship sank.",
        "Say it like this: I'm sorry, but I can't help with that.",
        "作为人工智能工程师，你需要懂数学。",
        "作为一个人，我热爱大海。",
        "抱歉让你久等了，我们出发吧。",
        "对不起，我不能没有你。",
        "对不起，我不能嫁给你。",
        "很遗憾，我无法参加今晚的宴会。",
        "很遗憾听到这个消息。",
        "我无法回答他，只能沉默。",
        "人工智能是一门学科，它无法代替人。",
    ],
)
def test_answer_that_sounds_like_a_refusal_passes(text: str) -> None:
    assert refusal(text) is None


ENGLISH, CHINESE = "The sea is wide, and the whale swims in it.", "大海很宽广，鲸鱼在里面游泳。"


@pytest.mark.parametrize(
    ("prompt", "text", "language"),
    [
        ("大海是什么样子的？", ENGLISH, "auto"),
        ("What is the sea like?", CHINESE, "auto"),
        ("serendipity 是什么意思？", "It means a happy accident that nobody had planned.", "auto"),
        ("Какое оно, море?", ENGLISH, "auto"),
        ("What is the sea like?", "Море широкое, и в нём плавает кит.", "auto"),
        ("大海是什么样子的？", "바다는 넓고 고래가 그 안에서 헤엄칩니다.", "auto"),
        ("What is the sea like?", ENGLISH, "zh"),
        ("大海是什么样子的？", CHINESE, "en"),
        ("Translate it into English: 大海", CHINESE, "en"),
    ],
)
def test_answer_in_another_script_is_found(prompt: str, text: str, language: Language) -> None:
    assert wrong_language(asked(prompt), text, language)


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("serendipity 是什么意思？", "serendipity 指意外的发现，例如：It was pure serendipity that we met."),
        ("大海是什么样子的？", "OK."),
        ("大海是什么样子的？", "42, 43, 44, 45, 46, 47"),
        ("大海是什么样子的？", "https://example.org/the/sea/is/wide/and/full/of/whales"),
        ("写一个快速排序", "```python\ndef sort(numbers):\n    return sorted the numbers in place quickly\n```"),
        (
            "写一个快速排序",
            "def quicksort(arr):\n    if len(arr) <= 1:\n        return arr\n    pivot = arr[len(arr) // 2]\n"
            "    left = [x for x in arr if x < pivot]\n    return quicksort(left) + middle + quicksort(right)",
        ),
        ("解方程", r"$$x = \frac{a}{b} where all the letters are real numbers$$"),
        ("把下面的话翻译成英文：大海很宽广", ENGLISH),
        ("Translate into Chinese: the sea is wide", CHINESE),
        ("Explain this poem: 床前明月光，疑是地上霜", ENGLISH),
        ("总结下面的文章：" + ENGLISH * 5, CHINESE),
        ("用英语介绍大海", ENGLISH),
        ("?", ENGLISH),
        ("海とはどんなものですか", "海は広くて、クジラが泳いでいます。"),
        ("Kubernetes 是什么？", "Kubernetes 是一个 container orchestration 平台，用来 deploy 和 scale 应用。"),
        ("What is the sea like?", "La mer est vaste et pleine de baleines."),
    ],
)
def test_answer_that_may_mix_scripts_passes(prompt: str, text: str) -> None:
    assert wrong_language(asked(prompt), text, "auto") is None


def test_system_message_may_set_the_language() -> None:
    assert wrong_language(asked("大海是什么样子的？", system="Always answer in English."), ENGLISH, "auto") is None


def test_any_language_asks_nothing() -> None:
    assert wrong_language(asked("大海是什么样子的？"), ENGLISH, "any") is None


def test_last_user_turn_decides_the_language() -> None:
    before = (Message("user", "大海是什么样子的？"), Message("assistant", CHINESE))
    prompt = (*before, Message("user", "And the whales in it?"))
    assert wrong_language(prompt, ENGLISH, "auto") is None
    assert wrong_language(prompt, CHINESE, "auto")


def test_length_is_counted_in_characters_and_words() -> None:
    assert too_long("one two", 7, 2) is None
    assert too_long("one two", None, None) is None
    assert too_long("one two", 6, None) == ("too_long", "has 7 characters, more than 6")
    assert too_long("don't stop 大海 42", None, 4) == ("too_long", "has 5 words, more than 4")


def test_good_pair_passes() -> None:
    meta = {"chosen": {"finish_reason": "stop"}, "rejected": {"finish_reason": "stop"}}
    assert apply_gates(pair_of(GOOD, POOR, **meta), GateSettings()) is None


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        (pair_of(GOOD, POOR, chosen={"finish_reason": "length"}), "chosen_cut_off"),
        (pair_of(GOOD, POOR, rejected={"finish_reason": "length"}), "rejected_cut_off"),
        (pair_of("…", POOR), "chosen_empty"),
        (pair_of(GOOD, "…"), "rejected_empty"),
        (pair_of("As an AI, I have never seen it.", POOR), "chosen_refusal"),
        (pair_of(GOOD, CHINESE), "rejected_wrong_language"),
        (pair_of(GOOD, GOOD.upper()), "identical"),
    ],
)
def test_reason_names_side_and_gate(pair: PreferencePair, reason: str) -> None:
    dropped = apply_gates(pair, GateSettings())
    assert dropped == Dropped(reason, dropped.detail if dropped else "", pair.meta)
    assert dropped.detail


def test_refusal_is_a_fair_rejected_side() -> None:
    assert apply_gates(pair_of(GOOD, "I'm sorry, but I can't help with that."), GateSettings()) is None


def test_gates_can_be_set_for_each_side() -> None:
    settings = GateSettings.model_validate({"identical": False, "rejected": {"refusal": True, "max_words": 3}})
    assert apply_gates(pair_of(GOOD, GOOD.upper()), settings) == Dropped(
        "rejected_too_long", "has 8 words, more than 3"
    )
    dropped = apply_gates(pair_of(GOOD, "As an AI, I do."), settings)
    assert dropped is not None
    assert dropped.reason == "rejected_refusal"
    off = SideGates(empty=False, cut_off=False, refusal=False, wrong_language=False)
    everything_off = GateSettings(identical=False, chosen=off, rejected=RejectedGates(**off.model_dump()))
    assert apply_gates(pair_of("…", "...", chosen={"finish_reason": "length"}), everything_off) is None


def test_setting_one_gate_of_the_rejected_side_leaves_its_others_as_they_were() -> None:
    settings = GateSettings.model_validate({"rejected": {"cut_off": False}})
    assert not settings.rejected.refusal and not settings.rejected.cut_off and settings.chosen.refusal


def test_unknown_gate_is_refused() -> None:
    with pytest.raises(ValidationError, match="refusals"):
        GateSettings.model_validate({"chosen": {"refusals": True}})


def test_what_tools_say_is_not_the_assistants() -> None:
    answer = (Message("assistant", "Let me look."), Message("tool", "大海"), Message("assistant", GOOD))
    assert side_text(answer) == f"Let me look.\n{GOOD}"


def test_chinese_right_behind_a_digit_counts_as_chinese() -> None:
    assert wrong_language(asked("How many apples are left?"), "3个苹果还在桌子上。", "auto")
    assert wrong_language(asked("还剩几个苹果？"), "3个苹果还在桌子上。", "auto") is None

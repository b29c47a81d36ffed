"""Style: formatting is taken off, words and code are not."""

from __future__ import annotations

import pytest

from align.text.plain import plain_text


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("# A heading\n\nText.", "A heading\n\nText."),
        ("### 标题 ###\n正文。", "标题\n正文。"),
        ("This is **very** *good* and __bold__.", "This is very good and bold."),
        ("这是**非常重要**的*内容*，***真的***。", "这是非常重要的内容，真的。"),
        ("- one\n* two\n+ three", "one\ntwo\nthree"),
        ("• 第一点\n  - 第二点\n●第三点", "第一点\n第二点\n第三点"),
        ("Great! 🎉🎉 Really 👍🏽 so", "Great! Really so"),
        ("好的😊，开始吧✨！", "好的，开始吧！"),
        ("> quoted\n> text", "quoted\ntext"),
        ("one   \n\n\n\n\ntwo\u3000\n", "one\n\ntwo"),
        ("above\n\n---\n\nbelow", "above\n\nbelow"),
        ("1. first\n2. second", "1. first\n2. second"),
        ("**Answer:** 42", "Answer: 42"),
        ("- **要点**：内容 ✅", "要点：内容"),
    ],
)
def test_formatting_is_taken_off(text, plain):
    assert plain_text(text) == plain


@pytest.mark.parametrize(
    "text",
    [
        "2**3 is 8 and 4**2 is 16",
        "a*b*c and 2 * 3 * 4",
        "call f(**kwargs) or g(*args)",
        "snake_case_name and other_name",
        "-5 is less than 3",
        "C# and #1",
        "小明说：“3-2=1”。",
        "```python\n# a comment\n- **not** *formatting* 🎉   \n```",
        "Use `**kwargs` and `__init__`, `*` too.",
        "日本語の「カギ」",
        "x < y > z",
        "Write `a` - then `b` # done",
    ],
)
def test_words_numbers_and_code_stay(text):
    assert plain_text(text) == text


def test_an_unclosed_block_of_code_stays_to_its_end():
    assert plain_text("**Look**\n```\n# one\n- two") == "Look\n```\n# one\n- two"


def test_an_answer_of_formatting_alone_stays():
    assert plain_text(" 👍 ") == "👍"


def test_taking_it_off_twice_changes_nothing():
    text = "# H\n\n- **a** _b_ 🎉\n> 引用 **重点**\n```\n**c**\n```\n"
    assert plain_text(plain_text(text)) == plain_text(text)

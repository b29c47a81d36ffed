"""Text rewards: what counts as a sentence, a word, a marked answer."""

from __future__ import annotations

import pytest

from align.rewards.text import Contains, ShortSentence, num_sentences, num_words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One sentence.", 1),
        ("Two sentences. Here!", 2),
        ("No end", 1),
        ("Pi is 3.14 or so.", 1),
        ("Use spices, e.g. cumin, in it.", 1),
        ("Dr. Smith said so.", 1),
        ('He said "stop." Then he left.', 2),
        ("A line\nand another.", 2),
        ("Really?! Yes...", 2),
        ("你好。再见！", 2),
        ("", 0),
    ],
)
def test_sentences_are_counted(text, expected):
    assert num_sentences(text) == expected


def test_words_are_counted_in_english_and_chinese():
    assert num_words("It's a well-known fact, 100%.") == 5
    assert num_words("我爱你") == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Water boils at 100 degrees.", 1.0),
        ("Water boils at 100 degrees", 0.0),
        ("Water boils. It is hot.", 0.0),
        ("Yes.", 0.0),
        (" ".join(["word"] * 26) + ".", 0.0),
        ("", 0.0),
    ],
)
def test_short_sentence_wants_one_whole_short_sentence(text, expected):
    assert ShortSentence()(prompts=["?"], completions=[[{"role": "assistant", "content": text}]]) == [expected]


def test_contains_finds_whole_words_in_any_case():
    reward = Contains(words=["arr", "ye"], min_different=1)
    assert reward(prompts=["?"] * 3, completions=["Arr, matey", "carry yesterday", "see YE"]) == [1.0, 0.0, 1.0]


def test_contains_may_ask_for_several_different_words():
    reward = Contains(words=["arr", "ye"], min_different=2)
    assert reward(prompts=["?"] * 2, completions=["arr arr", "arr ye"]) == [0.0, 1.0]

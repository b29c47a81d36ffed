"""Near-duplicates: planted ones are found at each edit rate, and nothing else is."""

from __future__ import annotations

import random

import pytest

from align.data.lint.duplicates import are_near, near_duplicates, similarity
from align.text.normal import normalised
from tests.data.lint.made_texts import chinese, edited, english


def planted(texts: list[str], rates: list[float], num: int) -> tuple[list[str], dict[int, int]]:
    """The texts with edited copies behind them, and copy → original."""
    generator = random.Random(5)
    originals = generator.sample(range(len(texts)), num)
    copies = [edited(texts[place], rates[n % len(rates)], generator) for n, place in enumerate(originals)]
    all_texts = [normalised(text) for text in [*texts, *copies]]
    return all_texts, {len(texts) + n: place for n, place in enumerate(originals)}


def test_290_of_300_planted_chinese_copies_are_found_among_3300_documents_and_nothing_else():
    texts, origins = planted(chinese(3000), [0.05, 0.1, 0.15], 300)
    pairs = {(match.first, match.second) for match in near_duplicates(texts)}
    wanted = {(first, second) for second, first in origins.items()}
    assert len(pairs & wanted) >= 290
    assert pairs <= wanted


@pytest.mark.parametrize(("rate", "least"), [(0.05, 298), (0.1, 295), (0.15, 270)])
@pytest.mark.parametrize("make", [chinese, english])
def test_recall_at_each_edit_rate(make, rate, least):
    texts, origins = planted(make(3000), [rate], 300)
    found = {match.second for match in near_duplicates(texts) if origins.get(match.second) == match.first}
    assert len(found) >= least


@pytest.mark.parametrize("make", [chinese, english])
def test_a_clean_file_raises_no_alarm(make):
    assert near_duplicates([normalised(text) for text in make(3000, seed=1)]) == []


def test_a_template_that_many_texts_share_makes_none_of_them_near():
    template = "answer the following question step by step and put the final answer in a box at the end"
    subjects = [normalised(text) for text in english(500, num_words=8)]
    assert near_duplicates([f"{template} {subject}" for subject in subjects]) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("What is the difference between a frog and a toad?", "What is the difference between a violin and a cello?"),
        ("How do I boil an egg?", "How do I fry an egg?"),
        ("请写一首关于春天的诗，要求押韵", "请写一首关于大海的诗，要求押韵"),
        ("澳大利亚的首都是哪里？", "加拿大的首都是哪里？"),
    ],
)
def test_short_questions_that_differ_in_a_word_are_different_questions(first, second):
    assert not are_near(normalised(first), normalised(second))


def test_texts_with_different_numbers_are_never_near():
    text = "a farmer has {} cows and buys two more every month until the barn is full of cows and hay for the winter"
    assert near_duplicates([text.format(12), text.format(19)]) == []
    assert len(near_duplicates([text.format(12), text.format(12).replace("farmer", "farmers")])) == 1


def test_every_copy_of_a_text_is_matched_with_the_first():
    text = normalised(chinese(1)[0])
    assert [(match.first, match.second, match.similarity) for match in near_duplicates([text, "", text, text, ""])] == [
        (0, 2, 1.0),
        (0, 3, 1.0),
    ]


def test_similarity_is_one_for_equal_and_zero_for_unrelated_texts():
    assert similarity("the sea is wide", "the sea is wide") == 1
    assert similarity("the sea is wide", "我们去海边") == 0


@pytest.mark.parametrize("texts", [[], ["a"], ["a", "b"], ["", ""]])
def test_few_or_tiny_texts_are_no_trouble(texts):
    assert near_duplicates(texts) == []

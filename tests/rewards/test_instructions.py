"""Instructions: strict and loose, all and share, and no instruction that passes unchecked."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("if_verifiable")  # it needs Python 3.11

from align.errors import ConfigError, DataError
from align.rewards.instructions import InstructionsFollowed

NO_COMMA, LOWER = "punctuation:no_comma", "change_case:english_lowercase"


@pytest.fixture(scope="module")
def ask():
    made = {}

    def score(*texts, names=(NO_COMMA, LOWER), arguments=None, prompt="Say hello.", **settings):
        key = tuple(settings.items())
        reward = made[key] if key in made else made.setdefault(key, InstructionsFollowed(**settings))
        columns = {"instruction_id_list": [list(names)] * len(texts)}
        columns["kwargs"] = [arguments if arguments is not None else [{} for _ in names]] * len(texts)
        return asyncio.run(reward([[{"role": "user", "content": prompt}]] * len(texts), list(texts), **columns))

    yield score
    for reward in made.values():
        reward.checker.close()


GOOD, HALF = "this is a plain sentence in english without a pause", "This is an English sentence without a pause."


def test_all_instructions_must_be_followed(ask):
    assert ask(GOOD, HALF, "") == [1.0, 0.0, 0.0]


def test_with_share_the_share_counts(ask):
    assert ask(GOOD, HALF, share=True) == [1.0, 0.5]


def test_loose_forgives_what_stands_around_the_answer_and_strict_does_not(ask):
    wrapped = "Sure, here it is:\n" + HALF
    assert ask(wrapped, names=[NO_COMMA]) == [0.0]
    assert ask(wrapped, names=[NO_COMMA], mode="loose") == [1.0]


def test_thoughts_are_not_looked_at(ask):
    assert ask(f"<think>well, yes</think>{HALF}", names=[NO_COMMA]) == [1.0]


def test_arguments_of_a_row_are_used_and_nulls_are_as_if_absent(ask):
    name = "length_constraints:number_words"
    given = [{"num_words": 3, "relation": "less than", "keywords": None}]
    assert ask("two words", "these are four words", names=[name], arguments=given) == [1.0, 0.0]


def test_the_question_is_handed_over_where_it_must_be_repeated(ask):
    given = [{"prompt_to_repeat": "Say hello."}]
    assert ask("Say hello. Hello!", "Hello!", names=["combination:repeat_prompt"], arguments=given) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("names", "arguments", "text"),
    [
        (["punctuation:nocomma"], [{}], "did you mean punctuation:no_comma"),
        (["length_constraints:number_words"], [{}], "kwargs must hold num_words, relation"),
        (["length_constraints:number_words"], [{"num_words": None, "relation": "at least"}], "hold num_words"),
        ([], [], "at least one"),
        ([NO_COMMA], [{}, {}], "lists of the same length"),
    ],
)
def test_an_instruction_that_could_not_be_checked_is_an_error(ask, names, arguments, text):
    with pytest.raises(DataError, match=text):
        ask("hello", names=names, arguments=arguments)


def test_data_that_is_not_on_the_machine_is_an_error_with_the_command(ask, tmp_path, monkeypatch):
    for name in ("HOME", "NLTK_DATA"):
        monkeypatch.setenv(name, str(tmp_path))
    reward = InstructionsFollowed(timeout_s=30.0)
    columns = {
        "instruction_id_list": [["length_constraints:number_sentences"]],
        "kwargs": [[{"num_sentences": 1, "relation": "at least"}]],
    }
    with pytest.raises(ConfigError, match=r"need NLTK data: run .*punkt_tab"):
        asyncio.run(reward(["?"], ["One."], **columns))
    reward.checker.close()


@pytest.mark.parametrize("settings", [{"mode": "lose"}, {"benchmark": "ifevil"}])
def test_a_wrong_word_is_refused(settings):
    with pytest.raises(ConfigError, match="must be"):
        InstructionsFollowed(**settings)

"""Token faults: what training would cut, merge, double or leave without an end is named."""

from __future__ import annotations

import pytest

from align.data.rows.pair import Demonstration, Message, PreferencePair
from align.training.rows.encoding import encode
from align.training.rows.rules import TokenRules
from tests.training.rows.templated import TEMPLATES, end_ids, templated_tokenizer

ASKED = (Message("user", "?"),)


def fault(name, chosen="yes", rejected="no", asked=ASKED, max_length=None, ends=None, with_merges=False):
    tokenizer = templated_tokenizer(name, with_merges)
    answers = [(Message("assistant", text),) for text in (chosen, rejected)]
    row = encode([PreferencePair(asked, *answers)], tokenizer)[0]
    ends = end_ids(name, tokenizer) if ends is None else ends
    return TokenRules(tokenizer, ends, max_length).fault(row, ("chosen", "rejected"))


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name not in ("deepseek_r1", "glm4_5")])
def test_rows_of_sound_templates_have_no_fault(name):
    assert fault(name) is None


def test_a_template_that_ends_no_answer_is_named():
    found = fault("glm4_5")
    assert found.reason == "no_end_of_sequence"
    assert found.detail.startswith("chosen must end with the end-of-sequence token '<|endoftext|>' or '<|user|>'")


def test_gemma_ends_where_its_generation_config_stops():
    assert fault("gemma", ends=()).reason == "no_end_of_sequence"
    assert fault("gemma") is None


@pytest.mark.parametrize("side", ["chosen", "rejected"])
@pytest.mark.parametrize("end", ["<|im_end|>", "<|im_end|>\n"])
def test_an_end_that_stands_in_the_answer_already_is_named(side, end):
    found = fault("qwen2_5", **{side: f"maybe{end}"})
    assert found.reason == "double_end_of_sequence"
    assert found.detail.startswith(f"{side} must end with '<|im_end|>' once")


def test_an_end_within_an_answer_of_several_turns_is_none_too_many():
    tokenizer = templated_tokenizer("chatml")
    turns = tuple(Message(role, "so") for role in ("assistant", "tool", "assistant"))
    row = encode([Demonstration(ASKED, turns)], tokenizer)[0]
    assert TokenRules(tokenizer).fault(row, ("completion",)) is None


def test_a_begin_that_stands_in_the_prompt_already_is_named():
    tokenizer = templated_tokenizer("llama3")
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    answers = [(Message("assistant", text),) for text in ("yes", "no")]
    row = encode([PreferencePair(ASKED, *answers)], tokenizer)[0]
    assert TokenRules(tokenizer).fault(row, ("chosen", "rejected")).reason == "double_begin_of_sequence"


def test_a_boundary_across_which_tokens_merge_is_named_with_the_cut_token():
    found = fault("chatml", rejected="\n\nthe user", with_merges=True)
    assert found.reason == "merged_boundary"
    assert r"assistant⟦\n⟧" in found.detail


def test_sides_that_the_template_writes_alike_are_named():
    thoughts = {"chosen": "<think>one</think>yes", "rejected": "<think>two</think>yes"}
    assert fault("deepseek_r1_first", **thoughts).reason == "same_tokens"
    assert fault("qwen3", **thoughts) is None


def test_a_row_is_too_long_by_its_longer_side():
    tokenizer = templated_tokenizer("chatml")
    answers = [(Message("assistant", text),) for text in ("yes", "a" * 40)]
    longest = encode([PreferencePair(ASKED, *answers)], tokenizer)[0].longest
    assert fault("chatml", rejected="a" * 40, max_length=longest) is None
    assert fault("chatml", rejected="a" * 40, max_length=longest - 1).reason == "too_long"

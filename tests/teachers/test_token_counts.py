"""Token counts: a real tokenizer stays between the two bounds."""

from __future__ import annotations

import pytest

from align.data.rows.message import Message
from align.models.load import load_tokenizer
from align.models.resolve import resolve
from align.models.scoring import prompt_token_ids
from align.teachers.token_counts import fewest_prompt_tokens, most_prompt_tokens

TEXTS = [
    "What is the capital of France? Answer in one short sentence, please.",
    "def f(x):\n    return [y ** 2 for y in range(x) if y % 3 == 0]  # 123456789 and 3.14159",
    "法国的首都是哪里？请用一句话回答，不要解释。",
    "Ελληνικά και русский текст, ünïcödé and naïve café",
    "a" * 300,
    "",
    "🙂🙃 " * 20,
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_real_tokenizer_stays_between_the_bounds(text):
    tokenizer = load_tokenizer(resolve("embedded:smollm2-135m"))
    messages = [Message("system", "Be brief."), Message("user", text or "x")]
    num_tokens = len(prompt_token_ids(tokenizer, [message.to_dict() for message in messages]))
    assert 0.9 * fewest_prompt_tokens(messages) <= num_tokens <= most_prompt_tokens(messages)


def test_the_lower_bound_is_close_enough_to_see_half_a_prompt_missing():
    text = "The river carries small stones and sand down to the wide plains. " * 50
    tokenizer = load_tokenizer(resolve("embedded:smollm2-135m"))
    num_tokens = len(tokenizer(text)["input_ids"])
    assert fewest_prompt_tokens([Message("user", text)]) * 0.9 > num_tokens / 2

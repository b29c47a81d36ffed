"""Token counts without a tokenizer: bounds that no prompt passes from above or from below."""

from __future__ import annotations

import re
from collections.abc import Sequence

from align.data.rows.message import Message
from align.text.scripts import HANGUL, UNSPACED

_TEMPLATE_TOKENS = 16
"""At most, around a message: role, separators."""
_PREAMBLE_TOKENS = 64
"""At most, once a prompt: a default system prompt such as Qwen2.5's (20 tokens), the start of the answer."""
_SPACED_WORD = re.compile(r"[A-Za-zÀ-ɏͰ-ӿ]+|\d{1,3}")
_UNSPACED = re.compile(f"[{UNSPACED}{HANGUL}]")
_TOKENS_PER_UNSPACED = 0.4
"""DeepSeek counts 0.6 (https://api-docs.deepseek.com/quick_start/token_usage); common phrases take less."""


def most_prompt_tokens(messages: Sequence[Message]) -> int:
    """A bound for byte-level tokenizers: a token holds at least one byte of UTF-8."""
    return _PREAMBLE_TOKENS + sum(len(message.content.encode()) + _TEMPLATE_TOKENS for message in messages)


def fewest_prompt_tokens(messages: Sequence[Message]) -> int:
    """About what no prompt stays below: a token a word, since tokens do not reach across spaces; no template."""
    total = 0.0
    for message in messages:
        total += sum(1 for _ in _SPACED_WORD.finditer(message.content))
        total += _TOKENS_PER_UNSPACED * sum(1 for _ in _UNSPACED.finditer(message.content))
    return int(total)

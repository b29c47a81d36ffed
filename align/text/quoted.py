"""Quoted: shows a model the texts of others so that nothing in them can end the block or open a turn.

Every block stands between two lines that bear a mark. The mark comes from a hash of all the texts, so the same texts
give the same prompt, and it occurs in none of them: a text cannot close its own block. (Delimiting helps, it does not
make a model immune: "Spotlighting", arXiv 2403.14720. What is left is measured: `align/judges/trust/injections.py`.)
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence


def mark_for(texts: Sequence[str]) -> str:
    """16 hexadecimal digits that occur in none of the texts; the same for the same texts."""
    return first_absent(_marks(texts), texts)


def first_absent(marks: Iterable[str], texts: Sequence[str]) -> str:
    """The first mark that is part of none of the texts, upper or lower case."""
    lowered = [text.lower() for text in texts]
    return next(mark for mark in marks if not any(mark in text for text in lowered))


def block(name: str, text: str, mark: str) -> str:
    """The text between its two lines, with the tokens that would open a turn broken up."""
    return f"<<{mark} {name}>>\n{without_turns(text)}\n<<{mark} /{name}>>"


def without_turns(text: str) -> str:
    """Puts a blank into what chat templates set between turns, `<|im_end|>` for example.

    A tokenizer reads such text as the token itself, and then it ends the prompt whatever stands around it.
    Covered: `<|…` (ChatML, Llama 3, Phi, GLM, and DeepSeek's wide bar), `<s>`, `<bos>` and their ends, Gemma's turns,
    Mistral's and Llama 2's brackets, `<think>`.
    """
    return _TURN.sub(r"\g<0> ", text)


def _marks(texts: Sequence[str]) -> Iterator[str]:
    digest = hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()
    return (hashlib.sha256(f"{digest} {count}".encode()).hexdigest()[:16] for count in itertools.count())


_TURN = re.compile(
    r"<(?=[|｜])|<(?=/?(?:s|bos|eos|pad|unk|think|start_of_turn|end_of_turn|sop|eop|reserved_\d+)>)|<(?=<?/?SYS>>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|gMASK|sMASK)\])",
    re.IGNORECASE,
)

"""Valid: what must hold of a row, its columns and the order of its turns; each raises `RowError` where it does not.

The order of turns: at most one system message, and it comes first; then a user; an assistant answers a user or a
tool; a tool answers an assistant (several tools may); a user follows an assistant. A prompt ends with user or tool.
An answer begins and ends with an assistant and holds nothing but assistant and tool messages.
Only a system message may be blank.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence

from align.data.rows.message import Message, Messages, RowError, listed
from align.text.shorten import quote


def check_columns(values: object, kind: str, required: tuple[str, ...], optional: tuple[str, ...]) -> None:
    """Raise unless the value is a JSON object with all required columns and no unknown one."""
    if not isinstance(values, (dict, Mapping)):  # dict first: asking an abstract class is slow
        raise RowError(f"a {kind} must be a JSON object, but is {quote(values)}", "not_an_object")
    missing = [name for name in required if name not in values]
    unknown = [name for name in values if name not in required and name not in optional]
    if missing:
        advice = _did_you_mean(unknown, missing)
        advice += [todo for name, there, todo in _COUNTERPARTS if name in missing and there in values]
        text = f"a {kind} must have {listed(required)}, but {listed(missing)} is missing; there is {listed(values)}"
        raise RowError("; ".join([text, *advice[:1]]), "missing_column")
    if unknown:
        advice = _did_you_mean(unknown, [name for name in optional if name not in values])
        advice += ["move it under meta"] if "meta" in optional else ["remove it"]
        text = f"a {kind} must have only {listed([*required, *optional])}, but also has {listed(unknown)}"
        raise RowError(f"{text}; {advice[0]}", "unknown_column")


def check_prompt(prompt: Messages) -> None:
    """Raise unless the messages are in order and leave the next word to an assistant."""
    _check_messages(prompt, "prompt")
    _check_turns(prompt, "prompt", "the start")
    if prompt[-1].role not in ("user", "tool"):
        text = f"prompt must end with user or tool, but ends with {prompt[-1].role}"
        raise RowError(f"{text}; move the answer out of prompt", "wrong_turns")


def check_not_swapped(prompt: Messages, chosen: Messages) -> None:
    """Raise where `prompt` holds the answer and `chosen` the question; the turns alone would say less."""
    _check_messages(prompt, "prompt")
    _check_messages(chosen, "chosen")
    if prompt[-1].role == "assistant" and chosen[0].role in ("system", "user"):
        text = f"prompt must be the question, but ends with assistant while chosen begins with {chosen[0].role}"
        raise RowError(f"{text}; the two columns look swapped", "swapped_columns")


def check_answer(prompt: Messages, answer: Messages, where: str) -> None:
    """Raise unless `answer` is nothing but an answer. An empty `prompt` is one that is not known here."""
    _check_messages(answer, where)
    if prompt and answer[: len(prompt)] == prompt:
        text = f"{where} must hold only the answer, but begins with the whole prompt"
        raise RowError(f"{text}; remove its first {len(prompt)} messages", "prompt_repeated")
    for index, message in enumerate(answer):
        if message.role not in ("assistant", "tool"):
            text = f"{where} must hold only the answer (assistant and tool messages), but {where}[{index}] is"
            raise RowError(f"{text} {message.role}; move the turns before the answer to prompt", "wrong_turns")
    _check_turns(answer, where, "user")
    if answer[-1].role != "assistant":
        raise RowError(f"{where} must end with assistant, but ends with {answer[-1].role}", "wrong_turns")


def check_sides_differ(chosen: Messages, rejected: Messages) -> None:
    """Raise where both sides say the same but for outer spaces."""
    if _stripped(chosen) == _stripped(rejected):
        raise RowError("chosen and rejected must differ, but say the same; drop the pair", "same_sides")


def check_meta(meta: object) -> None:
    """Raise unless it is a mapping; what it holds is checked where it is written."""
    if not isinstance(meta, (dict, Mapping)):
        raise RowError(f"meta must be an object with names and values, but is {quote(meta)}", "wrong_type")


def is_finite(value: object) -> bool:
    """A number (not a bool) that a float can hold."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an int beyond the range of floats
        return False


def _did_you_mean(unknown: Sequence[str], known: Sequence[str]) -> list[str]:
    pairs = [(name, difflib.get_close_matches(str(name), known, n=1)) for name in unknown]
    return [f"did you mean {close[0]} instead of {quote(name)}?" for name, close in pairs if close]


def _check_messages(messages: Messages, where: str) -> None:
    if not isinstance(messages, tuple) or set(map(type, messages)) - {Message}:
        raise RowError(f"{where} must be a tuple of Message, but is {quote(messages)}", "wrong_type")
    if not messages:
        raise RowError(f"{where} must hold at least one message, but is empty", "empty")


def _check_turns(messages: Messages, where: str, before: str) -> None:
    """Raise unless the messages are in order; `before` is the role that stands before the first of them."""
    for index, message in enumerate(messages):
        if before not in _FOLLOWS[message.role]:
            text = f"{where}[{index}]: {message.role} must follow {' or '.join(_FOLLOWS[message.role])}"
            raise RowError(f"{text}, but follows {before}; join or reorder the messages", "wrong_turns")
        if message.role != "system" and not message.content.strip():
            raise RowError(f"{where}[{index}]: content of {message.role} must not be blank", "blank")
        before = message.role


def _stripped(messages: Messages) -> list[tuple[str, str]]:
    return [(message.role, message.content.strip()) for message in messages]


_FOLLOWS = {
    "system": ("the start",),
    "user": ("the start", "system", "assistant"),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}
"""Role → what may stand before it."""

_COUNTERPARTS = (
    ("chosen", "completion", "a row with one answer is a Demonstration (sft), not a pair"),
    ("chosen", "messages", "a row with one conversation is for sft; a pair needs two answers"),
    ("completion", "chosen", "rename chosen to completion, or add rejected: a pair will do"),
    ("completion", "messages", "put the last assistant message into completion and the turns before it into prompt"),
    ("prompt", "chosen", "move the turns that chosen and rejected share to prompt"),
    ("prompt", "instruction", "rename instruction to prompt"),
    ("prompt", "question", "rename question to prompt"),
    ("candidates", "completions", 'rename completions to candidates, each {"messages": [...], "score": …}'),
)
"""(missing column, column that is there instead, what to do)."""

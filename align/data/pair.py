"""Rows: messages, prompts, preference pairs, scored groups, demonstrations, and the reason why a row was dropped.

The JSON form is TRL's conversational format (https://huggingface.co/docs/trl/dataset_formats), so a file needs no
conversion: `{"prompt": [...], "chosen": [...], "rejected": [...], "meta": {...}}`.
Every row is valid on construction; an invalid one raises `RowError`, whose text names what must hold.

The order of turns: at most one system message, and it comes first; then a user; an assistant answers a user or a
tool; a tool answers an assistant (several tools may); a user follows an assistant. A prompt ends with user or tool.
An answer begins and ends with an assistant and holds nothing but assistant and tool messages.
Only a system message may be blank.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on

ROLES = ("system", "user", "assistant", "tool")


class RowError(ValueError):
    """One row breaks a rule. The reader adds file and line."""

    def __init__(self, text: str, reason: str = "invalid") -> None:
        super().__init__(text)
        self.reason = reason
        """Short slug that bad rows are counted by, such as `missing_column`."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    """`system`, `user`, `assistant` or `tool`."""
    content: str
    """Any text that UTF-8 can hold, without NUL."""

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            known = _ROLES_ELSEWHERE.get(self.role) if isinstance(self.role, str) else None
            advice = f"; write {known}" if known else ""
            raise RowError(f"role must be one of {_names(ROLES)}, but is {_quote(self.role)}{advice}", "wrong_role")
        _check_text(self.content, "content")

    def to_dict(self) -> dict[str, str]:
        """The form that chat templates take."""
        return {"role": self.role, "content": self.content}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make the message from its JSON form. A further key is allowed only as null (column formats fill it in).

        Raises:
            RowError: when the values are not a message.
        """
        if not isinstance(values, (dict, Mapping)):  # dict first: asking an abstract class is slow
            raise RowError(f'must be {{"role": …, "content": …}}, but is {_quote(values)}', "wrong_type")
        if "role" not in values or "content" not in values:
            advice = "; rename from and value to role and content" if "from" in values and "value" in values else ""
            raise RowError(f"must have role and content, but has {_names(values)}{advice}", "missing_column")
        if len(values) > 2 and (extra := [key for key in values if key not in _PARTS and values[key] is not None]):
            text = f"must have only role and content, but also has {_names(extra)}; write it into content or remove it"
            raise RowError(text, "unknown_column")
        return cls(values["role"], values["content"])


Messages = tuple[Message, ...]


class Row:
    """What a line of a file holds. `to_dict` and `from_dict` are each other's inverse; the fields are the columns."""

    __slots__: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, with every column."""
        return {name: _WRITERS.get(name, _same)(getattr(self, name)) for name in self.__slots__}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make the row from its JSON form.

        Raises:
            RowError: when the values are not such a row.
        """
        required, optional = _columns(cls)  # type: ignore[arg-type]  # mypy takes Self for unhashable
        _check_columns(values, cls.__name__, required, optional)
        return cls(**{name: _READERS[name](values[name], name) for name in values})


@dataclass(frozen=True, slots=True)
class Prompt(Row):
    """What a model is asked: the input of a builder."""

    messages: Messages
    meta: Mapping[str, Any] = field(default_factory=dict)
    """JSON values; what a builder or a reward needs to know about the prompt."""

    def __post_init__(self) -> None:
        _check_prompt(self.messages)
        _check_meta(self.meta)

    @property
    def key(self) -> str:
        """SHA-256 (hexadecimal) of the messages, the same on every machine; `meta` has no part in it."""
        text = json.dumps(as_dicts(self.messages), ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, `{"prompt": [...], "meta": {...}}`."""
        return {"prompt": as_dicts(self.messages), "meta": dict(self.meta)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make the prompt from its JSON form, where `prompt` may also be a string: one user message.

        Raises:
            RowError: when the values are not a prompt.
        """
        _check_columns(values, cls.__name__, ("prompt",), ("meta",))
        prompt = values["prompt"]
        messages = (Message("user", prompt),) if isinstance(prompt, str) else _read_messages(prompt, "prompt")
        return cls(messages, _read_meta(values.get("meta"), "meta"))


@dataclass(frozen=True, slots=True)
class PreferencePair(Row):
    """Two answers to one prompt, of which the first is the better one."""

    prompt: Messages
    chosen: Messages
    rejected: Messages
    meta: Mapping[str, Any] = field(default_factory=dict)
    """JSON values: provenance. What is known of one side stands under `chosen` or `rejected`."""

    def __post_init__(self) -> None:
        _check_not_swapped(self.prompt, self.chosen)
        _check_prompt(self.prompt)
        _check_answer(self.prompt, self.chosen, "chosen")
        _check_answer(self.prompt, self.rejected, "rejected")
        if _stripped(self.chosen) == _stripped(self.rejected):
            raise RowError("chosen and rejected must differ, but say the same; drop the pair", "same_sides")
        _check_meta(self.meta)


@dataclass(frozen=True, slots=True)
class Demonstration(Row):
    """A prompt and the answer to learn: a row of supervised fine-tuning."""

    prompt: Messages
    completion: Messages
    meta: Mapping[str, Any] = field(default_factory=dict)
    """JSON values: provenance."""

    def __post_init__(self) -> None:
        _check_prompt(self.prompt)
        _check_answer(self.prompt, self.completion, "completion")
        _check_meta(self.meta)


@dataclass(frozen=True, slots=True)
class Candidate(Row):
    """One answer of a group."""

    messages: Messages
    score: float | None = None
    """Finite, higher is better; None when it was not judged."""

    def __post_init__(self) -> None:
        _check_answer((), self.messages, "messages")
        if self.score is not None and not _is_finite(self.score):
            raise RowError(f"score must be a finite number or null, but is {_quote(self.score)}", "wrong_type")


@dataclass(frozen=True, slots=True)
class Group(Row):
    """One prompt with two or more scored answers. (A column named `completions` would collide with TRL's rewards.)"""

    prompt: Messages
    candidates: tuple[Candidate, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)
    """JSON values: provenance."""

    def __post_init__(self) -> None:
        _check_prompt(self.prompt)
        if not isinstance(self.candidates, tuple) or not all(isinstance(one, Candidate) for one in self.candidates):
            raise RowError(f"candidates must be a tuple of Candidate, but is {_quote(self.candidates)}", "wrong_type")
        if len(self.candidates) < 2:
            raise RowError(f"candidates must be 2 or more, but are {len(self.candidates)}", "too_few_candidates")
        for index, candidate in enumerate(self.candidates):
            _check_answer(self.prompt, candidate.messages, f"candidates[{index}].messages")
        _check_meta(self.meta)


@dataclass(frozen=True, slots=True)
class Dropped(Row):
    """A row that was not made, and why. Dropped rows are counted by reason."""

    reason: str
    """Short slug, such as `chosen_cut_off`."""
    detail: str = ""
    """What a person wants to know beyond the slug."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """JSON values: provenance of what was dropped."""

    def __post_init__(self) -> None:
        if not isinstance(self.reason, str) or not re.fullmatch("[a-z][a-z0-9_]{0,63}", self.reason):
            raise RowError(f"reason must be a slug such as cut_off, but is {_quote(self.reason)}", "wrong_type")
        _check_text(self.detail, "detail")
        _check_meta(self.meta)


def as_dicts(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Messages in the form that chat templates, TRL and HTTP endpoints take."""
    return [message.to_dict() for message in messages]


_PARTS = ("role", "content")

_ROLES_ELSEWHERE = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "function": "tool"}

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
    ("completion", "chosen", "a row with two answers is a PreferencePair (dpo)"),
    ("completion", "messages", "put the last assistant message into completion and the turns before it into prompt"),
    ("prompt", "chosen", "move the turns that chosen and rejected share to prompt"),
    ("prompt", "instruction", "rename instruction to prompt"),
    ("prompt", "question", "rename question to prompt"),
    ("candidates", "completions", 'rename completions to candidates, each {"messages": [...], "score": …}'),
)
"""(missing column, column that is there instead, what to do)."""


@cache
def _columns(kind: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the required and of the optional columns."""
    has_default = {one.name: (one.default, one.default_factory) != (MISSING, MISSING) for one in fields(kind)}
    return tuple(n for n in has_default if not has_default[n]), tuple(n for n in has_default if has_default[n])


def _check_columns(values: object, kind: str, required: tuple[str, ...], optional: tuple[str, ...]) -> None:
    if not isinstance(values, (dict, Mapping)):  # dict first: asking an abstract class is slow
        raise RowError(f"a {kind} must be a JSON object, but is {_quote(values)}", "not_an_object")
    missing = [name for name in required if name not in values]
    unknown = [name for name in values if name not in required and name not in optional]
    if missing:
        advice = _did_you_mean(unknown, missing)
        advice += [todo for name, there, todo in _COUNTERPARTS if name in missing and there in values]
        text = f"a {kind} must have {_names(required)}, but {_names(missing)} is missing; there is {_names(values)}"
        raise RowError("; ".join([text, *advice[:1]]), "missing_column")
    if unknown:
        advice = _did_you_mean(unknown, [name for name in optional if name not in values])
        advice += ["move it under meta"] if "meta" in optional else ["remove it"]
        text = f"a {kind} must have only {_names([*required, *optional])}, but also has {_names(unknown)}"
        raise RowError(f"{text}; {advice[0]}", "unknown_column")


def _did_you_mean(unknown: Sequence[str], known: Sequence[str]) -> list[str]:
    pairs = [(name, difflib.get_close_matches(str(name), known, n=1)) for name in unknown]
    return [f"did you mean {close[0]} instead of {_quote(name)}?" for name, close in pairs if close]


def _read_messages(value: object, where: str) -> Messages:
    if isinstance(value, str):
        role = "user" if where == "prompt" else "assistant"
        text = f"{where} must be a list of messages, but is the text {_quote(value)}"
        raise RowError(f'{text}; write [{{"role": "{role}", "content": "…"}}]', "plain_text")
    return tuple(_read_each(Message.from_dict, value, where))


def _read_candidates(value: object, where: str) -> tuple[Candidate, ...]:
    return tuple(_read_each(Candidate.from_dict, value, where))


def _read_each(read: Any, value: object, where: str) -> Iterable[Any]:
    """What `read` makes of each element; an error names the element by its index, from 0."""
    if not isinstance(value, (list, tuple)):
        raise RowError(f"{where} must be a list, but is {_quote(value)}", "wrong_type")
    for index, one in enumerate(value):
        try:
            yield read(one)
        except RowError as error:
            raise RowError(f"{where}[{index}]: {error}", error.reason) from None


def _read_meta(value: Any, where: str) -> Any:
    return {} if value is None else value


def _read_score(value: Any, where: str) -> Any:
    return float(value) if _is_finite(value) else value


def _same(value: Any, where: str = "") -> Any:
    return value


_READERS: dict[str, Any] = {
    **dict.fromkeys(("prompt", "chosen", "rejected", "completion", "messages"), _read_messages),
    **{"candidates": _read_candidates, "score": _read_score, "reason": _same, "detail": _same, "meta": _read_meta},
}
"""Column → what makes the field from its JSON value."""

_WRITERS: dict[str, Any] = {
    **dict.fromkeys(("prompt", "chosen", "rejected", "completion", "messages"), as_dicts),
    **{"candidates": lambda candidates: [candidate.to_dict() for candidate in candidates], "meta": dict},
}
"""Column → what makes the JSON value from the field; a column that is not named stays as it is."""


def _check_prompt(prompt: Messages) -> None:
    _check_messages(prompt, "prompt")
    _check_turns(prompt, "prompt", "the start")
    if prompt[-1].role not in ("user", "tool"):
        text = f"prompt must end with user or tool, but ends with {prompt[-1].role}"
        raise RowError(f"{text}; move the answer out of prompt", "wrong_turns")


def _check_not_swapped(prompt: Messages, chosen: Messages) -> None:
    _check_messages(prompt, "prompt")
    _check_messages(chosen, "chosen")
    if prompt[-1].role == "assistant" and chosen[0].role in ("system", "user"):
        text = f"prompt must be the question, but ends with assistant while chosen begins with {chosen[0].role}"
        raise RowError(f"{text}; the two columns look swapped", "swapped_columns")


def _check_answer(prompt: Messages, answer: Messages, where: str) -> None:
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


def _check_messages(messages: Messages, where: str) -> None:
    if not isinstance(messages, tuple) or set(map(type, messages)) - {Message}:
        raise RowError(f"{where} must be a tuple of Message, but is {_quote(messages)}", "wrong_type")
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


def _check_meta(meta: object) -> None:
    if not isinstance(meta, (dict, Mapping)):
        raise RowError(f"meta must be an object with names and values, but is {_quote(meta)}", "wrong_type")


def _check_text(value: object, where: str) -> None:
    if not isinstance(value, str):
        raise RowError(f"{where} must be a string, but is {_quote(value)}", "wrong_type")
    if "\0" in value:
        raise RowError(f"{where} must not hold NUL, but does at character {value.index(chr(0)) + 1}; remove it", "nul")
    try:
        value.isascii() or value.encode()
    except UnicodeEncodeError as error:
        half = f"half a character ({_quote(value[error.start])}) at character {error.start + 1}"
        raise RowError(f"{where} must be whole Unicode text, but has {half}; remove it", "lone_surrogate") from None


def _is_finite(value: object) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an int beyond the range of floats
        return False


def _stripped(messages: Messages) -> list[tuple[str, str]]:
    return [(message.role, message.content.strip()) for message in messages]


def _names(names: Iterable[object]) -> str:
    return ", ".join(str(name) if str(name).isidentifier() else _quote(name) for name in names) or "nothing"


def _quote(value: object) -> str:
    """The value as a person may read it in an error: a start of it, and nothing that a terminal cannot show."""
    text = _SHORT.repr(value)
    return text if text.isprintable() else ascii(text)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlevel = 3
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 2

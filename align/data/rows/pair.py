"""Rows: prompts, preference pairs, scored groups, demonstrations, and the reason why a row was dropped.

The JSON form is TRL's conversational format (https://huggingface.co/docs/trl/dataset_formats), so a file needs no
conversion: `{"prompt": [...], "chosen": [...], "rejected": [...], "meta": {...}}`.
Every row is valid on construction; an invalid one raises `RowError`, whose text names what must hold (`valid.py`,
which also tells the order of turns).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from align.data.rows.message import (
    ROLES,
    Message,
    Messages,
    RowError,
    as_dicts,
    check_text,
    read_each,
    read_messages,
)
from align.data.rows.valid import (
    check_answer,
    check_columns,
    check_meta,
    check_not_swapped,
    check_prompt,
    check_sides_differ,
    is_finite,
)
from align.text.shorten import quote

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on

__all__ = [
    "ROLES",
    "Candidate",
    "Demonstration",
    "Dropped",
    "Group",
    "Message",
    "Messages",
    "PairOrGroup",
    "PreferencePair",
    "Prompt",
    "Row",
    "RowError",
    "as_dicts",
]

R = TypeVar("R", bound="Row")


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
        return _from_columns(cls, values)


@dataclass(frozen=True, slots=True)
class Prompt(Row):
    """What a model is asked: the input of a builder."""

    messages: Messages
    meta: Mapping[str, Any] = field(default_factory=dict)
    """JSON values; what a builder or a reward needs to know about the prompt."""

    def __post_init__(self) -> None:
        check_prompt(self.messages)
        check_meta(self.meta)

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
        check_columns(values, cls.__name__, ("prompt",), ("meta",))
        prompt = values["prompt"]
        messages = (Message("user", prompt),) if isinstance(prompt, str) else read_messages(prompt, "prompt")
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
        check_not_swapped(self.prompt, self.chosen)
        check_prompt(self.prompt)
        check_answer(self.prompt, self.chosen, "chosen")
        check_answer(self.prompt, self.rejected, "rejected")
        check_sides_differ(self.chosen, self.rejected)
        check_meta(self.meta)


@dataclass(frozen=True, slots=True)
class Demonstration(Row):
    """A prompt and the answer to learn: a row of supervised fine-tuning."""

    prompt: Messages
    completion: Messages
    meta: Mapping[str, Any] = field(default_factory=dict)
    """JSON values: provenance."""

    def __post_init__(self) -> None:
        check_prompt(self.prompt)
        check_answer(self.prompt, self.completion, "completion")
        check_meta(self.meta)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make the demonstration from its JSON form, or from a preference pair's, so that sft and dpo share a file.

        A pair (`chosen` and `rejected`, no `completion`) has to be a valid one; its chosen side is the completion.

        Raises:
            RowError: when the values are neither.
        """
        if isinstance(values, (dict, Mapping)) and values.keys() & _ANSWERS == {"chosen", "rejected"}:
            pair = PreferencePair.from_dict(values)
            return cls(pair.prompt, pair.chosen, pair.meta)
        return _from_columns(cls, values)


@dataclass(frozen=True, slots=True)
class Candidate(Row):
    """One answer of a group."""

    messages: Messages
    score: float | None = None
    """Finite, higher is better; None when it was not judged."""

    def __post_init__(self) -> None:
        check_answer((), self.messages, "messages")
        if self.score is not None and not is_finite(self.score):
            raise RowError(f"score must be a finite number or null, but is {quote(self.score)}", "wrong_type")


@dataclass(frozen=True, slots=True)
class Group(Row):
    """One prompt with two or more scored answers. (A column named `completions` would collide with TRL's rewards.)"""

    prompt: Messages
    candidates: tuple[Candidate, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)
    """JSON values: provenance."""

    def __post_init__(self) -> None:
        check_prompt(self.prompt)
        if not isinstance(self.candidates, tuple) or not all(isinstance(one, Candidate) for one in self.candidates):
            raise RowError(f"candidates must be a tuple of Candidate, but is {quote(self.candidates)}", "wrong_type")
        if len(self.candidates) < 2:
            raise RowError(f"candidates must be 2 or more, but are {len(self.candidates)}", "too_few_candidates")
        for index, candidate in enumerate(self.candidates):
            check_answer(self.prompt, candidate.messages, f"candidates[{index}].messages")
        check_meta(self.meta)


class PairOrGroup(Row):
    """Reads what a preference recipe trains on: a row with `candidates` is a group, every other one a pair."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Any:
        """Make the row from its JSON form.

        Raises:
            RowError: when the values are neither.
        """
        kind = Group if isinstance(values, (dict, Mapping)) and "candidates" in values else PreferencePair
        return kind.from_dict(values)


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
            raise RowError(f"reason must be a slug such as cut_off, but is {quote(self.reason)}", "wrong_type")
        check_text(self.detail, "detail")
        check_meta(self.meta)


def _from_columns(kind: type[R], values: Mapping[str, Any]) -> R:
    required, optional = _columns(kind)  # type: ignore[arg-type]  # mypy takes a bound type for unhashable
    check_columns(values, kind.__name__, required, optional)
    return kind(**{name: _READERS[name](values[name], name) for name in values})


@cache
def _columns(kind: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the required and of the optional columns."""
    has_default = {one.name: (one.default, one.default_factory) != (MISSING, MISSING) for one in fields(kind)}
    return tuple(n for n in has_default if not has_default[n]), tuple(n for n in has_default if has_default[n])


def _read_candidates(value: object, where: str) -> tuple[Candidate, ...]:
    return tuple(read_each(Candidate.from_dict, value, where))


def _read_meta(value: Any, where: str) -> Any:
    return {} if value is None else value


def _same(value: Any, where: str = "") -> Any:
    return value


_ANSWERS = {"chosen", "rejected", "completion"}

_READERS: dict[str, Any] = {
    **dict.fromkeys(("prompt", "chosen", "rejected", "completion", "messages"), read_messages),
    **{"candidates": _read_candidates, "reason": _same, "detail": _same, "meta": _read_meta},
    "score": lambda value, where: float(value) if is_finite(value) else value,
}
"""Column → what makes the field from its JSON value."""

_WRITERS: dict[str, Any] = {
    **dict.fromkeys(("prompt", "chosen", "rejected", "completion", "messages"), as_dicts),
    **{"candidates": lambda candidates: [candidate.to_dict() for candidate in candidates], "meta": dict},
}
"""Column → what makes the JSON value from the field; a column that is not named stays as it is."""

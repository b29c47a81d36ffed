"""Ledger entries: what makes two calls equal, what is recorded of an answer, and how a request can end."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

from align.teachers.base import Completion


class State(Enum):
    """What became of a request."""

    SENT = "sent"
    """It may be on its way; found after a kill, it becomes `UNKNOWN`."""
    ANSWERED = "answered"
    """There is a recorded answer."""
    FAILED = "failed"
    """This call has no answer, for a reason that asking again does not change."""
    REFUSED = "refused"
    """It did not reach the model, or was turned away: nothing was bought."""
    UNKNOWN = "unknown"
    """It may have been answered and paid for; the answer is gone."""


@dataclass(frozen=True)
class Call:
    """What makes two calls equal."""

    teacher: str
    """The teacher's declared name; a group of equal endpoints is one teacher."""
    model: str
    body: Mapping[str, Any]
    """Everything else that was asked: messages and every sampling parameter."""
    index: int = 0
    """Which of several answers to the same messages."""

    @property
    def asked_of(self) -> str:
        """Teacher and model."""
        return f"{self.teacher}:{self.model}"

    @cached_property
    def body_json(self) -> str:
        return json.dumps({**self.body, "index": self.index}, sort_keys=True, ensure_ascii=False)

    @cached_property
    def key(self) -> str:
        """sha256 of all of it."""
        return hashlib.sha256("\0".join((self.teacher, self.model, self.body_json)).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, as it is recorded."""

    text: str
    reasoning: str
    finish_reason: str
    model: str
    """As the server names it."""
    prompt_tokens: int | None
    """None where the server did not say; so below."""
    cached_tokens: int | None
    completion_tokens: int | None

    @property
    def columns(self) -> tuple[str | int | None, ...]:
        """As the ledger has them; `dataclasses.astuple` copies deeply and takes ten times as long."""
        counts = (self.prompt_tokens, self.cached_tokens, self.completion_tokens)
        return (self.text, self.reasoning, self.finish_reason, self.model, *counts)

    def completion(self, call: Call) -> Completion:
        """As teachers give it."""
        return Completion(
            text=self.text,
            finish_reason=self.finish_reason,
            prompt_tokens=self.prompt_tokens or 0,
            completion_tokens=self.completion_tokens or 0,
            reasoning=self.reasoning,
            key=call.key,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended."""

    state: State
    cost: int | None = 0
    """In billionths of the currency; None keeps the reserved worst case."""
    reason: str = ""
    answer: Answer | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A request that may be on its way."""

    id: int
    key: str
    worst_case: int
    task: asyncio.Task[Any] | None

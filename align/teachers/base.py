"""Teacher: answers messages with completions, whatever stands behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from align.data.rows.pair import Message


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a completion is drawn."""

    temperature: float = 0.7
    """0 means greedy."""
    top_p: float = 1.0
    """Nucleus sampling (arXiv 1904.09751); 1 keeps the whole distribution."""
    max_tokens: int = 256
    """Tokens after which a completion is cut off (`finish_reason` is then `length`)."""
    seed: int = 0
    """With the messages and the sample's index it fixes a local answer."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer of a teacher."""

    text: str
    """Without special tokens, and without the reasoning."""
    finish_reason: str
    """`stop` when the model ended by itself; anything else is not a whole answer (`length`: cut off)."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning: str = ""
    """What a reasoning model thought before it answered; never trained on."""
    key: str = ""
    """Of the recorded answer in the ledger; empty where there is none."""


class Teacher(Protocol):
    """Answers messages. Calls may run concurrently; a teacher decides how many it works on at once."""

    name: str
    """Identifies the teacher in cards and in the key of a stored answer."""

    async def complete(self, messages: Sequence[Message], sampling: Sampling, n: int = 1) -> list[Completion]:
        """Draw `n` independent completions."""
        ...

    async def aclose(self) -> None:
        """Free what the teacher holds. Calls still running fail."""
        ...

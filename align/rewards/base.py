"""Reward: a number for one completion, called as TRL calls its reward functions.

`reward(prompts, completions, **columns) -> list[float | None]`, plain or async; None means "cannot say", never 0.
Source: https://huggingface.co/docs/trl/grpo_trainer#using-a-custom-reward-function
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from align.data.rows.pair import Message, Prompt, as_dicts
from align.data.rows.task import TAKEN_NAMES
from align.errors import ConfigError, DataError
from align.teachers.base import Teacher
from align.teachers.settings import TeacherSettings

Reward = Callable[..., "list[float | None] | Awaitable[list[float | None]]"]


@runtime_checkable
class AsksTeacher(Protocol):
    """A reward that asks a teacher. Whoever holds a ledger open lends it, since one process writes into a ledger."""

    def ask_through(self, asked: Callable[[TeacherSettings], Teacher]) -> None:
        """Use the teacher that `asked` makes, until it is called again. Whoever lends it also closes it."""
        ...


async def score(
    reward: Reward,
    prompt: Sequence[Message],
    completion: list[dict[str, str]],
    columns: Mapping[str, Any] | None = None,
) -> float | None:
    """The reward of one completion.

    Args:
        completion: messages as JSON, since a model may write what no valid `Message` holds.
        columns: what the row holds besides, a gold answer say; each is handed over as a list of one.

    Raises:
        ValueError: when the reward does not return one number, or None, for one completion.
    """
    others = {name: [value] for name, value in (columns or {}).items() if name not in TAKEN_NAMES}
    scores = reward(prompts=[as_dicts(prompt)], completions=[completion], **others)
    if inspect.isawaitable(scores):
        scores = await scores
    if len(scores) != 1:
        raise ValueError(f"{reward}: must return one score a completion, returned {len(scores)} for 1")
    return scores[0]


async def score_text(reward: Reward, prompt: Prompt, text: str) -> float | None:
    """The reward of an answer's text; what the prompt's meta holds are its columns."""
    return await score(reward, prompt.messages, [{"role": "assistant", "content": text}], prompt.meta)


def completion_text(completion: Any) -> str:
    """The text of a completion as TRL hands it over: a string, or a list of messages."""
    if isinstance(completion, str):
        return completion
    return "\n".join(message["content"] for message in completion if message["role"] == "assistant")


def column(columns: dict[str, Any], name: str, what: str) -> list[Any]:
    """The values of a column, one a completion.

    Raises:
        DataError: no row has it.
    """
    if name not in columns:
        raise DataError(f"no row has the column {name!r}, which must hold {what}; name the one that does")
    return list(columns[name])


def refuse_without(module: str, who: str, extra: str) -> None:
    """Raise ConfigError, with the command that helps, when a library of an extra is not installed."""
    if importlib.util.find_spec(module) is None:
        raise ConfigError(f"{who} needs the library {module}; install it with: pip install 'align-recipes[{extra}]'")

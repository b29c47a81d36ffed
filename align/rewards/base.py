"""Reward: a number for one completion, called as TRL calls its reward functions.

`reward(prompts, completions, **columns) -> list[float | None]`, plain or async; None means "cannot say", never 0.
Source: https://huggingface.co/docs/trl/grpo_trainer#using-a-custom-reward-function
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from align.data.pair import Message, as_dicts
from align.data.task import TAKEN_NAMES

Reward = Callable[..., "list[float | None] | Awaitable[list[float | None]]"]


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


def completion_text(completion: Any) -> str:
    """The text of a completion as TRL hands it over: a string, or a list of messages."""
    if isinstance(completion, str):
        return completion
    return "\n".join(message["content"] for message in completion if message["role"] == "assistant")

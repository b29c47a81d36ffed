"""Reward functions: the rewards as TRL calls them, each under its own name, by which it stops the run when it fails.

A row's columns travel as one JSON text, `columns`, and are unpacked here: Arrow would turn ints into floats and add
keys to nested values. All rows have the same names, null where a row had none.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import math
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from align.errors import AlignError, AnswerError, ConfigError
from align.text.shorten import shorten

TRL_ARGUMENTS = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric")
"""What TRL 1.16 hands to a reward besides the row's columns."""

Scores = list[float | None]


def packed_columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns of each row as JSON text; a name that only some rows have is null in the others."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [json.dumps({name: row.get(name) for name in names}, ensure_ascii=False) for row in rows]


def reward_function(reward: Callable[..., Any], name: str) -> Callable[..., Any]:
    """A function for TRL's `reward_funcs`, async where the reward is; its `__name__` is what metrics are named by.

    It raises ConfigError, with the place, when the reward raises, and when the scores are not one finite number or
    None for each completion.
    """

    def arguments(prompts: Any, completions: Any, columns: Any, others: Any) -> dict[str, Any]:
        unpacked = [json.loads(text) for text in columns]
        by_name = {key: [row[key] for row in unpacked] for key in unpacked[0]}
        of_trl = {name: others[name] for name in TRL_ARGUMENTS if name in others}
        return {**by_name, **of_trl, "prompts": prompts, "completions": completions}

    if _is_async(reward):

        async def function(prompts: Any, completions: Any, columns: Any, **others: Any) -> Scores:
            try:
                scores = await reward(**arguments(prompts, completions, columns, others))
            except Exception as error:
                raise _stopped(name, error) from error
            return _checked(name, scores, len(completions))

    else:

        def function(prompts: Any, completions: Any, columns: Any, **others: Any) -> Scores:  # type: ignore[misc]
            try:
                scores = reward(**arguments(prompts, completions, columns, others))
            except Exception as error:
                raise _stopped(name, error) from error
            return _checked(name, scores, len(completions))

    function.__name__ = name
    return function


def check_signature(reward: Callable[..., Any], name: str, columns: Sequence[str]) -> None:
    """Raise ConfigError unless the reward takes what TRL hands it: its own arguments and every column of the rows."""
    try:
        inspect.signature(reward).bind(**dict.fromkeys((*TRL_ARGUMENTS, *columns)))
    except TypeError as error:
        form = f"{name}(prompts, completions, **columns)"
        raise ConfigError(f"rewards: {name}: must take what it is called with, but: {error}; write {form}") from error


def distinct_names(names: Sequence[str]) -> list[str]:
    """The names, with `_2`, `_3` … behind those that stood before."""
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return result


def call(function: Callable[..., Any], loop: asyncio.AbstractEventLoop | None, **arguments: Any) -> Scores:
    """The scores of a `reward_function`; an async one runs on `loop`, the trainer's, where its connections live."""
    scores = function(**arguments)
    if inspect.isawaitable(scores):
        assert loop is not None  # TRL starts it when a reward is async
        return asyncio.run_coroutine_threadsafe(scores, loop).result()  # type: ignore[arg-type]
    return scores  # type: ignore[no-any-return]


def _is_async(reward: Any) -> bool:
    while isinstance(reward, functools.partial):
        reward = reward.func
    return inspect.iscoroutinefunction(reward) or inspect.iscoroutinefunction(reward.__call__)


def _stopped(name: str, error: Exception) -> AlignError:
    if isinstance(error, AnswerError):
        return AnswerError(error.reason, f"reward {name}: {error.detail}", error.is_final)
    if isinstance(error, AlignError):
        return type(error)(f"reward {name}: {error}")
    place = traceback.extract_tb(error.__traceback__)[-1]
    return ConfigError(
        f"reward {name}: raised {type(error).__name__}: {error} ({place.filename}:{place.lineno}). The run stops, "
        "since a failed reward must not score 0; correct it, or let it return None where it cannot say."
    )


def _checked(name: str, scores: Any, num_completions: int) -> Scores:
    if inspect.isawaitable(scores):
        raise ConfigError(f"reward {name}: must be declared with async def where it returns something to await")
    if isinstance(scores, str) or not hasattr(scores, "__len__") or len(scores) != num_completions:
        text = f"reward {name}: must return a list of {num_completions} scores, one a completion"
        raise ConfigError(f"{text}, but returned {shorten(str(scores), 80)}")
    return [None if score is None else _number(name, score) for score in scores]


def _number(name: str, score: Any) -> float:
    number = math.nan if isinstance(score, str) or not hasattr(score, "__float__") else float(score)
    if not math.isfinite(number):
        raise ConfigError(f"reward {name}: a score must be a finite number or None (cannot say), but is {score!r}")
    return number

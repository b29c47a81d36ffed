"""Reasoning: the scores of reasoning-gym's tasks, each task with the scorer that its own library gives it.

Rows come from `align/data_builders/reasoning_gym.py`. Source: https://github.com/open-thought/reasoning-gym
(arXiv 2505.24760).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from align.errors import DataError
from align.rewards.base import column as column_of
from align.rewards.base import completion_text, refuse_without
from align.rewards.child import ChildChecker
from align.text.shorten import shorten

EVALUATED = (
    *("binary_matrix", "countdown", "intermediate_integration", "n_queens", "polynomial_multiplication", "puzzle24"),
    *("simple_integration", "spiral_matrix", "string_insertion"),
)
"""Tasks whose scorers evaluate the model's answer as Python (`eval`, sympy's `parse_expr`) in reasoning-gym 0.1.25."""


class ReasoningGym:
    """The score from 0 to 1 that reasoning-gym gives an answer; None where it cannot say. Parts of a score are its own.

    The answer is what stands in the last `<answer>…</answer>` of the completion, without outer spaces; a completion
    without one is scored as reasoning-gym scores no answer, in nearly all tasks 0. Tell the model to write so.

    Many scorers give a little for any text that holds the answer, or for a wrong answer of the right form; look at
    `reasoning_gym` for the task that you train on. Those in `EVALUATED` run the model's text as Python. All scorers
    run in a child process with a wall clock, which keeps a hanging one from the training process but is no sandbox.
    """

    def __init__(self, column: str = "entry", tag: str | None = "answer", timeout_s: float = 10.0) -> None:
        """`tag` None: the whole completion is the answer. `timeout_s`: wall clock of one completion.

        Raises:
            ConfigError: reasoning-gym is not installed.
        """
        refuse_without("reasoning_gym", "ReasoningGym", "reasoning")
        self.column = column
        """Holds `{"task": name, "parameters": {…}, "question": …, "answer": …, "metadata": {…}}`."""
        self.tag = tag
        self.checker = ChildChecker("ReasoningGym", "align.rewards.reasoning:make_check", timeout_s)

    async def __call__(self, prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:
        """One score a completion.

        Raises:
            DataError: no row has the column, or an entry is not one of reasoning-gym.
        """
        entries = [self._entry(value) for value in column_of(columns, self.column, "the entry of reasoning-gym")]
        answers = [answer_in(completion_text(completion), self.tag) for completion in completions]
        return await self.checker.scores(list(zip(entries, answers, strict=True)), columns.get("log_metric"))

    def _entry(self, value: Any) -> dict[str, Any]:
        if isinstance(value, dict) and {"task", "parameters", "question", "answer", "metadata"} <= value.keys():
            return value
        raise DataError(
            f"{self.column} must be an entry as ReasoningGymBuilder writes it, with task, parameters, question, answer "
            f"and metadata, but is {shorten(str(value), 80)!r}"
        )


def answer_in(text: str, tag: str | None) -> str | None:
    """What stands in the last `<tag>…</tag>`, or the whole text without a tag; None when nothing stands there."""
    if tag is None:
        return text.strip() or None
    found = re.findall(rf"<{re.escape(tag)}>((?:(?!<{re.escape(tag)}>).)*?)</{re.escape(tag)}>", text, re.DOTALL)
    return (found[-1].strip() or None) if found else None


def make_check() -> Callable[[Any], float]:
    """For the child: (entry, answer) → score."""
    import reasoning_gym
    from reasoning_gym.factory import DATASETS

    @lru_cache(maxsize=256)
    def scorer(task: str, parameters: str) -> Callable[[str | None, dict[str, Any]], float]:
        if task not in DATASETS:
            raise DataError(f"entry: task must be one of reasoning-gym's {len(DATASETS)} tasks, but is {task!r}")
        made = reasoning_gym.create_dataset(task, **json.loads(parameters))
        return made.score_answer  # type: ignore[no-any-return]

    def check(request: Any) -> float:
        entry, answer = request
        score = scorer(entry["task"], json.dumps(entry["parameters"], sort_keys=True))
        return float(score(answer, {name: entry[name] for name in ("question", "answer", "metadata")}))

    return check

"""Math answer: 1 where a completion ends in the same mathematical value as the gold of its row, told by math-verify.

Source: https://github.com/huggingface/Math-Verify
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from align.errors import DataError
from align.rewards.base import column as column_of
from align.rewards.base import completion_text, refuse_without
from align.rewards.child import ChildChecker
from align.text.normal import ascii_signs
from align.text.scripts import HANGUL, UNSPACED, WIDE_MARKS
from align.text.shorten import shorten

_IS_MARKED = re.compile(r"\\boxed|(?<!\\)\$|\\\(|\\\[")
_SPOKEN = re.compile(r"\\(?:text|textbf|textit|mathrm|mbox|operatorname)\s*\{[^{}]*\}|\\[A-Za-z]+")
_WORD = re.compile(r"[^\W\d_]{2,}")
_CHINESE = WIDE_MARKS + UNSPACED + HANGUL
_BESIDE_CHINESE = re.compile(rf"(?<=[{_CHINESE}])(?=[^\s{_CHINESE}])|(?<=[^\s{_CHINESE}])(?=[{_CHINESE}])")


class MathAnswer:
    """1 when the completion's answer equals the gold of its row as mathematics, 0 when not, None where it cannot say.

    `1/2`, `0.5` and `\\frac{1}{2}` are equal, so are `x+1` and `1+x`, `\\{1,2\\}` and `1,2`, `x=3` and `3`; `0.33` is
    not `1/3`. As math-verify has it, `50%` equals both `50` and `0.5`.

    In a completion math-verify reads the last `\\boxed{…}`, else the last formula in `$…$`, `\\(…\\)` or `\\[…\\]`,
    else the last number. LaTeX outside of these is not read: `2\\sqrt{3}` without `$` counts as 2; ask for `\\boxed{}`.
    A completion without any answer scores 0. Full-width digits and signs (１２) are read as ASCII.

    math-verify runs in a child process, since it needs SIGALRM, which no thread has. A completion that takes longer
    than `timeout_s`, or at which the child dies, has no score; that is printed, counted in `checker.num_timeouts` and
    `checker.num_failed`, and logged by GRPO as `MathAnswer/no_score`.
    """

    def __init__(self, column: str = "answer", timeout_s: float = 10.0) -> None:
        """`timeout_s`: wall clock of one completion.

        Raises:
            ConfigError: math-verify is not installed.
        """
        refuse_without("math_verify", "MathAnswer", "verify")
        self.column = column
        """The gold: a number; a formula in LaTeX (`2\\sqrt{3}`); or text whose answer is marked with `\\boxed{…}`,
        `$…$` or `####`. Null or blank: there is none, and no score."""
        self.checker = ChildChecker("MathAnswer", "align.rewards.math_answer:make_check", timeout_s)

    async def __call__(self, prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:
        """One score a completion. From a thread without an event loop: `asyncio.run(reward(…))`.

        Raises:
            DataError: no row has the column, or a gold holds no answer that can be read.
        """
        golds = [self._gold(value) for value in column_of(columns, self.column, "the gold answer")]
        texts = [_readable(completion_text(completion)) for completion in completions]
        asked = [(gold, text) for gold, text in zip(golds, texts, strict=True) if gold is not None]
        scores = iter(await self.checker.scores(asked, columns.get("log_metric")))
        return [None if gold is None else next(scores) for gold in golds]

    def _gold(self, value: Any) -> str | None:
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise DataError(f"{self.column} must be a number or text, but is {value!r}")
        return marked_answer(str(value))


def marked_answer(gold: str) -> str:
    """The gold as math-verify must see it: behind its last `####`, and marked as a formula.

    Unmarked, `2\\sqrt{3}` would be read as 2, and every wrong answer of 2 would score 1.

    Raises:
        DataError: there are words around the answer, and nothing marks it.
    """
    text = _readable(gold).rpartition("####")[2].strip()
    if _IS_MARKED.search(text):
        return text
    if _WORD.search(_SPOKEN.sub(" ", text)):
        raise DataError(
            "a gold answer must be a number, a formula, or text that marks its answer, but is "
            f"{shorten(gold, 80)!r}; write "
            "\\boxed{…} around the answer, \\text{…} around words that belong to it, or null where there is none"
        )
    return f"\\boxed{{{text}}}"


def _readable(text: str) -> str:
    """Full-width signs as ASCII, and a space between Chinese and what follows: math-verify wants a word to end before
    a number begins, and would find none in 答案是7。"""
    return _BESIDE_CHINESE.sub(" ", ascii_signs(text))


def make_check() -> Callable[[Any], float]:
    """For the child: (gold, completion) → 1.0 or 0.0. The wall clock is the parent's, so math-verify sets no alarm."""
    import logging

    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)  # it warns that it has no alarm, and prints completions that it cannot read

    def check(request: Any) -> float:
        gold, text = request
        expected = parse(gold, parsing_timeout=None)
        if not expected:
            raise DataError(f"a gold answer must be readable as mathematics, but is {shorten(gold, 80)!r}; correct it")
        found = parse(text, parsing_timeout=None)
        return float(bool(found) and verify(expected, found, timeout_seconds=None, raise_on_error=True))

    return check

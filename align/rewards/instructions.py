"""Instructions: whether a completion does what checkable instructions ask (IFEval, IFBench), told by if-verifiable.

Sources: IFEval, arXiv 2311.07911; IFBench, arXiv 2507.02833; https://github.com/joancabezas/if-verifiable
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from align.errors import ConfigError, DataError
from align.rewards.base import column as column_of
from align.rewards.base import completion_text, refuse_without
from align.rewards.child import ChildChecker
from align.settings.base import did_you_mean
from align.text.shorten import shorten

_SCORES = {
    ("strict", False): "binary_strict",
    ("loose", False): "binary_loose",
    ("strict", True): "partial_strict",
    ("loose", True): "partial_loose",
}


class InstructionsFollowed:
    """1 when the completion follows every checkable instruction of its row, else 0; with `share`, the share followed.

    Rows are as in google/IFEval: `instruction_id_list`, such as `["punctuation:no_comma"]`, and `kwargs`, one object
    an instruction. `strict` checks the completion as it stands; `loose` also passes it when one of eight variants
    does: without its first line, its last, both, and each of these without `*`. What stands before `</think>` is not
    looked at. `benchmark` is `ifeval` (25 kinds of instruction) or `ifbench` (58 harder ones).

    if-verifiable leaves out unknown instructions and makes up arguments that are missing; here both are errors. It
    runs in a child process with a wall clock, as `MathAnswer` does. Instructions about sentences and capital words,
    and all of IFBench, need NLTK data: `python -m nltk.downloader punkt_tab stopwords averaged_perceptron_tagger_eng`.
    """

    def __init__(
        self, mode: str = "strict", share: bool = False, benchmark: str = "ifeval", timeout_s: float = 10.0
    ) -> None:
        """`timeout_s`: wall clock of one completion.

        Raises:
            ConfigError: `mode` or `benchmark` is another word, or if-verifiable is not installed (Python 3.11).
        """
        if (mode, share) not in _SCORES:
            raise ConfigError(f"InstructionsFollowed: mode must be strict or loose, is {mode!r}")
        if benchmark not in ("ifeval", "ifbench"):
            raise ConfigError(f"InstructionsFollowed: benchmark must be ifeval or ifbench, is {benchmark!r}")
        refuse_without("if_verifiable", "InstructionsFollowed", "instructions")
        self.score_name = _SCORES[mode, share]
        self.checker = ChildChecker("InstructionsFollowed", f"align.rewards.instructions:make_{benchmark}", timeout_s)

    async def __call__(self, prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:
        """One score a completion.

        Raises:
            DataError: a column is missing, an instruction is not known, or one of its arguments is not given.
            ConfigError: an instruction needs NLTK data that is not on this machine.
        """
        names = column_of(columns, "instruction_id_list", "the names of the instructions")
        arguments = column_of(columns, "kwargs", "the arguments of each instruction")
        texts = [completion_text(completion) for completion in completions]
        requests = [
            {"prompt": _question(prompt), "text": text, "names": own, "arguments": given, "score": self.score_name}
            for prompt, text, own, given in zip(prompts, texts, names, arguments, strict=True)
        ]
        return await self.checker.scores(requests, columns.get("log_metric"))


def _question(prompt: Any) -> str:
    if isinstance(prompt, str):
        return prompt
    return next((message["content"] for message in reversed(prompt) if message["role"] == "user"), "")


def make_ifeval() -> Callable[[Any], float]:
    """For the child: a request → its score."""
    return _make_check("ifeval")


def make_ifbench() -> Callable[[Any], float]:
    """For the child: a request → its score."""
    return _make_check("ifbench")


def _make_check(benchmark: str) -> Callable[[Any], float]:
    import langdetect
    from if_verifiable.common import evaluate_instructions

    langdetect.DetectorFactory.seed = 0  # else the language of a short text is drawn anew each time
    registry = importlib.import_module(f"if_verifiable.{benchmark}.instructions_registry").INSTRUCTION_DICT

    def check(request: Any) -> float:
        names, arguments = request["names"], request["arguments"]
        _refuse_incomplete(names, arguments, registry)
        try:
            _, scores = evaluate_instructions(request["text"], names, arguments, request["prompt"], registry)
        except LookupError as error:
            if "nltk" not in str(error):
                raise
            raise ConfigError(f"instructions {names} need NLTK data:{_resource(str(error))}") from error
        return float(getattr(scores, request["score"]))

    return check


def _refuse_incomplete(names: Any, arguments: Any, registry: Mapping[str, Any]) -> None:
    is_whole = isinstance(names, list) and isinstance(arguments, list) and len(names) == len(arguments)
    if not is_whole or not names:
        raise DataError(
            "instruction_id_list and kwargs must be lists of the same length, at least one, but are "
            f"{shorten(str(names), 80)} and {shorten(str(arguments), 80)}"
        )
    for name, given in zip(names, arguments, strict=True):
        if name not in registry:
            raise DataError(f"instruction {name!r} is not known{did_you_mean(str(name), list(registry))}")
        wanted = registry[name](name).get_instruction_args_keys()
        missing = [key for key in wanted if (given or {}).get(key) is None]
        if missing:
            raise DataError(f"instruction {name}: kwargs must hold {', '.join(missing)}, but is {given}")


def _resource(text: str) -> str:
    """The command in NLTK's message, which is a page long."""
    found = [line.strip(" >") for line in text.splitlines() if "nltk.download(" in line]
    return f' run python -c "import nltk; {found[0]}"' if found else f" {shorten(text, 200)}"

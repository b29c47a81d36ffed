"""Leaks: an instruction that made an answer stands in the answer itself, which then teaches to recite it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from align.data.lint.gates import Fault
from align.data.rows.instruction import Instruction
from align.text.normal import normalised
from align.text.scripts import UNSPACED

NUM_WORDS = 8
"""Words in a row that are no accident. PaLM's check for test questions in its data counts 8 (arXiv 2204.02311)."""
NUM_CHARACTERS = 12
"""The same in Chinese, where a word is about a character and a half."""


@dataclass(frozen=True)
class Passages:
    """What must not stand in an answer."""

    sources: Mapping[str, str]
    """Passage, as `normalised` makes it → where it comes from, such as `good.system`."""

    @classmethod
    def of(cls, instructions: Mapping[str, Instruction]) -> Passages:
        """Every run of words of the system texts and of the example answers; the examples' questions may be asked.

        Args:
            instructions: name (`good`, `bad`) → instruction.
        """
        sources: dict[str, str] = {}
        for name, instruction in instructions.items():
            texts = {f"{name}.system": instruction.system or ""}
            texts |= {f"{name}.examples[{i}]": one.assistant for i, one in enumerate(instruction.examples)}
            for source, text in texts.items():
                for passage in _runs(normalised(text)):
                    sources.setdefault(passage, source)
        return cls(sources)

    def leak(self, text: str, prompt: str) -> Fault | None:
        """The first passage that stands in an answer and not in its prompt; both texts are `normalised`."""
        for passage, source in self.sources.items():
            if passage in text and passage not in prompt:
                return Fault("leaks_instruction", f"repeats {source}: {passage!r}")
        return None


def _runs(text: str) -> list[str]:
    """Every run of the length above; of a shorter text the whole, if it is at least half as long."""
    spans = [match.span() for match in _TOKEN.finditer(text)]
    num_han = sum(1 for start, end in spans if _HAN.match(text, start, end))
    num = NUM_CHARACTERS if 2 * num_han > len(spans) else NUM_WORDS
    if num / 2 <= len(spans) < num:
        return [text]
    return [text[spans[first][0] : spans[first + num - 1][1]] for first in range(len(spans) - num + 1)]


_HAN = re.compile(f"[{UNSPACED}]")
_TOKEN = re.compile(rf"{_HAN.pattern}|(?:(?!{_HAN.pattern})\S)+")

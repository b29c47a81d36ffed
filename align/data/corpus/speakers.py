"""Speakers: who is who in a corpus, and the turns of its conversations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from align.text.normal import name_form

_AND = re.compile(r"\s+and\s+|\s*&\s*|[、和與与]")


@dataclass(frozen=True, slots=True)
class Turn:
    """What somebody says in a scene, or a stage direction."""

    speaker: str | None
    """Name as the cast has it; None: the text does not say who, in a way that the rule can read."""
    text: str
    """Spoken words with white space joined; of a direction, with its brackets."""
    start: int
    """Offset into the corpus's text."""
    end: int
    is_direction: bool = False
    problem: str = ""
    """Slug of the reason why it can be no line to learn, although the speaker may be known."""


class Cast:
    """Names and their variants in the text, such as Hamlet: Ham."""

    def __init__(self, aliases: Mapping[str, Sequence[str]]) -> None:
        self._names = {name_form(variant): name for name, variants in aliases.items() for variant in (name, *variants)}
        self.variants = sorted({one for name, variants in aliases.items() for one in (name, *variants)}, key=_longest)
        """All names and variants, the longest first."""
        self.described = [f"{name} ({', '.join(others)})" if others else name for name, others in aliases.items()]
        """Each name with its variants, for a teacher."""

    def name(self, variant: str) -> str | None:
        """The name behind a variant (case and a full stop behind it do not matter), or None."""
        return self._names.get(name_form(variant))

    def names(self, tag: str) -> list[str]:
        """Those who speak together under a tag such as `Hor. and Mar.`; an unknown one stays as it is written."""
        whole = self.name(tag)
        parts = [whole] if whole else [part for part in _AND.split(tag) if part.strip()]
        return [self.name(part) or part.strip(" .:：") for part in parts]


def _longest(variant: str) -> tuple[int, str]:
    return -len(variant), variant

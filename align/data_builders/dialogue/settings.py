"""Dialogue settings: what a file under `data_builders/` may say about a novel or a play."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from align.data.corpus.play import STAGE_DIRECTION, TagStyle
from align.data_builders.core.settings import BuilderSettings
from align.settings.base import Location
from align.teachers.settings import SamplingSettings, TeacherSettings
from align.text.normal import name_form
from align.text.shorten import shorten

_ONLY_WITH = {"tags": ("tags", "stage_direction"), "said": (), "reader": ("reader", "reading", "chunk_characters")}
"""How lines are found → the settings that mean something then alone."""


class DialogueSettings(BuilderSettings):
    """Settings of the dialogue builder."""

    prompts: None = None
    """Not given here: the corpus makes the prompts."""
    heldout: None = None
    """Not given here: see `heldout_chapters`."""
    corpus: str
    """Text file in UTF-8 or GB18030, or `package:module/path` inside an installed package."""
    character: str
    """Whose lines are learned, as `aliases` has the name."""
    aliases: dict[str, list[str]] = {}  # noqa: RUF012  # pydantic copies defaults
    """Name → its variants in the text, such as Hamlet: [Ham]. With `said` and `reader`, everybody who may speak."""
    lines_from: Literal["tags", "said", "reader"] = "tags"
    """`tags`: speaker tags of a play. `said`: Chinese 曰, 道, 说 before a quotation. `reader`: a teacher finds them."""
    tags: TagStyle = "own_line"
    """`own_line`: the name alone on a line. `colon`: the name and a colon before the words."""
    stage_direction: str = STAGE_DIRECTION
    """Regular expression of what is not spoken inside a speech."""
    reader: TeacherSettings | None = None
    """Who finds the lines; every quotation it gives is looked up in the text."""
    reading: SamplingSettings = SamplingSettings(temperature=0.0, max_tokens=4096)
    """How the reader answers."""
    chunk_characters: int = Field(default=6000, ge=200)
    """Most characters that the reader gets at once, in whole paragraphs."""
    chapter_heading: str | None = None
    """Regular expression of a line that opens a chapter; default: `CHAPTER 1`, `ACT I`, `第一回`, `# …`."""
    scene_heading: str | None = None
    """Regular expression of a line that opens a scene; default: `Scene II`, `第一节`, `## …`."""
    scene_by: Literal["heading", "paragraph"] = "heading"
    """`paragraph`: every paragraph is a scene of its own, as in a book of sayings."""
    turns: int = Field(default=6, ge=1)
    """Most speeches before a line that its prompt shows."""
    system: str = "You are {character}. Scene: {chapter}, {scene}. Answer with your next words."
    """System turn; {character}, {chapter} and {scene} are filled in."""
    heldout_chapters: list[str] | float
    """Chapters kept away from training, by title or as a share between 0 and 1."""
    limit: int | None = Field(default=None, ge=1)
    """Most lines to pair, drawn by `seed`; a higher limit keeps those of a lower one."""
    seed: int = 0
    """Which chapters are held out, and which lines are within the limit."""
    student: TeacherSettings
    """The model that will be trained; it gives the rejected side."""
    sampling: SamplingSettings = SamplingSettings()
    """How the student answers."""

    @classmethod
    def mistakes(cls, raw: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
        """No option is ignored; expressions and fields can be read; a variant belongs to one name."""
        how = raw.get("lines_from", "tags")
        for other, names in _ONLY_WITH.items():
            for name in (name for name in names if name in raw and other != how):
                yield (name,), f"{name} means nothing with lines_from: {how}"
        if how == "reader" and "reader" not in raw:
            yield ("lines_from",), "reader must be given with lines_from: reader"
        for name in ("chapter_heading", "scene_heading", "stage_direction"):
            if isinstance(raw.get(name), str) and (fault := _regex_fault(raw[name])):
                yield (name,), f"{name} must be a regular expression, but {fault}"
        if isinstance(raw.get("system"), str) and (fault := _template_fault(raw["system"])):
            yield ("system",), f"system may hold the fields {{character}}, {{chapter}} and {{scene}} alone; {fault}"
        share = raw.get("heldout_chapters")
        if isinstance(share, float) and not 0 < share < 1:
            yield ("heldout_chapters",), f"heldout_chapters must be a share between 0 and 1, is {share}"
        yield from _alias_mistakes(raw.get("aliases", {}), raw.get("character"), how)


def _regex_fault(pattern: str) -> str | None:
    try:
        re.compile(pattern)
    except re.error as error:
        return str(error)
    return None


def _template_fault(template: str) -> str | None:
    try:
        template.format(character="", chapter="", scene="")
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        return f"it is {shorten(template, 60)!r} ({error}); write other braces twice"
    return None


def _alias_mistakes(aliases: Any, character: Any, how: Any) -> Iterator[tuple[Location, str]]:
    if not isinstance(aliases, dict) or not all(isinstance(variants, list) for variants in aliases.values()):
        return
    owners: dict[str, str] = {}
    for name, variants in aliases.items():
        for variant in (name, *variants):
            owner = owners.setdefault(name_form(str(variant)), name)
            if owner != name:
                yield ("aliases", name), f"aliases: {variant!r} must belong to one name, but to {owner} and {name}"
    if character not in aliases and name_form(str(character)) in owners:
        owner = owners[name_form(str(character))]
        yield ("character",), f"character must be the name {owner!r} of aliases, is its variant {character!r}"
    if how != "tags" and len(aliases) < 2:
        yield ("aliases",), "aliases must name everybody who may speak; a line is learned behind a known other's"

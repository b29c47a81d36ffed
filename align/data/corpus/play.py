"""Play: the turns of a scene by its speaker tags, with stage directions kept apart from what is said."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from align.data.corpus.corpus import Corpus, Scene
from align.data.corpus.speakers import Cast, Turn
from align.text.normal import one_line

TagStyle = Literal["own_line", "colon"]
"""`own_line`: the name alone on a line behind a blank one. `colon`: the name and a colon before the words."""

STAGE_DIRECTION = r"\[[^\[\]]*\]|（[^（）]*）"
"""What is not spoken inside a speech."""

_NAME = r"(?P<name>(?:[A-Z]|\d+ [A-Z])[A-Za-z.'’ ]{0,30})"
_TAGS = {
    "own_line": re.compile(rf"(?:\A|(?<=\n))[ ]*\n[ ]*{_NAME}[.:][ ]*\n(?=[ ]*\S)"),
    "colon": re.compile(r"^[ ]*(?P<name>[^\W\d_][^\n:：.,，。!?！？\"“”「」\[\]（）]{0,30})[:：]", re.MULTILINE),
}


def tagged_turns(
    corpus: Corpus, scene: Scene, cast: Cast, character: str, style: TagStyle, stage_direction: str
) -> list[Turn]:
    """What is said and done in the scene, in order. A speech reaches to the next tag, over blank lines and pages.

    A line that looks like a tag ends the speech before it whether or not the cast knows the name, since it is better
    to lose the rest of a speech than to give it to the wrong speaker.
    """
    text = corpus.text[: scene.end]
    tags = list(_TAGS[style].finditer(text, max(0, scene.start - 1)))
    ends = [*(tag.start() for tag in tags), scene.end]
    turns = list(_directions(corpus, scene.start, ends[0], stage_direction))
    for tag, end in zip(tags, ends[1:], strict=True):
        names = cast.names(tag["name"])
        problem = "several_speakers" if len(names) > 1 and character in names else ""
        speaker = character if problem else " and ".join(names)
        turns += _speech(corpus, (tag.end(), end), stage_direction, speaker, problem)
    return turns


def _speech(corpus: Corpus, span: tuple[int, int], direction: str, speaker: str, problem: str) -> Iterator[Turn]:
    """Directions before the first word, the speech, and the other directions."""
    start, end = span
    # As many spaces as the directions have characters, so that offsets stay what they are.
    words = re.sub(direction, lambda match: " " * len(match.group()), corpus.text[start:end])
    first = start + len(words) - len(words.lstrip())
    last = start + len(words.rstrip())
    if not words.strip():
        yield from _directions(corpus, start, end, direction)
        return
    yield from _directions(corpus, start, first, direction)
    yield Turn(speaker, one_line(words), first, last, problem=problem)
    yield from _directions(corpus, first, end, direction)


def _directions(corpus: Corpus, start: int, end: int, direction: str) -> Iterator[Turn]:
    for match in re.finditer(direction, corpus.text[start:end]):
        yield Turn(None, one_line(match.group()), start + match.start(), start + match.end(), is_direction=True)

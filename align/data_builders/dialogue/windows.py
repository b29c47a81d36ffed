"""Windows: a character's lines in a scene, each behind the turns that lead to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from align.data.corpus.corpus import Corpus, Scene
from align.data.corpus.speakers import Turn
from align.data.rows.pair import Dropped, Message, Prompt
from align.data_builders.student import GIVEN_ANSWER


@dataclass(frozen=True)
class Window:
    """How a line becomes a prompt."""

    character: str
    num_turns: int
    """Most speeches before the line that the prompt shows."""
    system: str
    """Text of the system turn, with the fields {character}, {chapter} and {scene}."""

    def prompts(self, corpus: Corpus, scene: Scene, turns: Sequence[Turn]) -> Iterator[Prompt | Dropped]:
        """Each of the character's lines in the scene, as a prompt whose meta carries it, or why there is none."""
        for index, turn in enumerate(turns):
            if turn.speaker != self.character or turn.is_direction:
                continue
            meta = self._meta(corpus, scene, turn)
            before = self._before(turns[:index])
            reason = turn.problem or ("" if before else _why_nothing(turns[:index], self.character))
            if reason:
                yield Dropped(reason, "", {**meta, "line": turn.text})
            else:
                num_speeches = sum(not one.is_direction for one in before)
                yield Prompt(self._messages(scene, before), {**meta, "turns": num_speeches, GIVEN_ANSWER: turn.text})

    def _meta(self, corpus: Corpus, scene: Scene, turn: Turn) -> dict[str, Any]:
        return {
            "character": self.character,
            "chapter": scene.chapter,
            "scene": scene.title,
            "corpus": corpus.name,
            "corpus_sha256": corpus.fingerprint,
            "start": turn.start,
            "end": turn.end,
            "line_number": corpus.line_number(turn.start),
        }

    def _before(self, turns: Sequence[Turn]) -> list[Turn]:
        """The last turns, from somebody else's speech on; none where the last speech is not surely somebody else's."""
        window: list[Turn] = []
        left = self.num_turns
        for turn in reversed(turns):
            if not turn.is_direction and (left == 0 or turn.speaker is None or turn.problem):
                break
            window.insert(0, turn)
            left -= not turn.is_direction
        speakers = [turn.speaker for turn in window if not turn.is_direction]
        if not speakers or speakers[-1] == self.character:
            return []
        first = next(index for index, turn in enumerate(window) if turn.speaker not in (None, self.character))
        while first and window[first - 1].is_direction:
            first -= 1
        return window[first:]

    def _messages(self, scene: Scene, before: Sequence[Turn]) -> tuple[Message, ...]:
        fields = {"character": self.character, "chapter": scene.chapter, "scene": scene.title or scene.chapter}
        messages = [Message("system", self.system.format(**fields))]
        for turn in before:
            is_own = turn.speaker == self.character
            role = "assistant" if is_own else "user"
            text = turn.text if is_own or turn.is_direction else f"{turn.speaker}: {turn.text}"
            if messages[-1].role == role:
                messages[-1] = Message(role, f"{messages[-1].content}\n{text}")
            else:
                messages.append(Message(role, text))
        return tuple(messages)


def _why_nothing(turns: Sequence[Turn], character: str) -> str:
    last = next((turn for turn in reversed(turns) if not turn.is_direction), None)
    if last is None:
        return "nothing_before"
    return "after_own_line" if last.speaker == character and not last.problem else "after_unknown_speaker"

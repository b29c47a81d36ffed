"""Reading: a teacher says who speaks what in a chunk; only what stands in the text is taken."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from align.data.corpus.corpus import Chunk, Corpus, Scene
from align.data.corpus.quotes import checked_turns, read_reply
from align.data.corpus.speakers import Cast, Turn
from align.data.rows.pair import Dropped, Message
from align.errors import AnswerError
from align.teachers.base import Sampling, Teacher
from align.text.quoted import without_turns

_TASK = """\
Find every direct speech in the text. Answer with JSON only, in the order of the text:
{{"lines": [{{"speaker": "Name", "quote": "the words, copied exactly"}}]}}
A speaker is one of: {names}. Copy each speech word for word, without quotation marks around it; where the narrator \
interrupts a speech, give its parts as rows of their own. Leave out a speech whose speaker is none of these."""


async def read_scene(
    corpus: Corpus, scene: Scene, cast: Cast, reader: Teacher, sampling: Sampling, most_characters: int
) -> tuple[list[Turn], list[Dropped]]:
    """Turns of the scene, and what the reader said that is not so.

    A chunk that could not be read leaves a turn without speaker, so that no prompt is built across the hole.
    """
    chunks = corpus.chunks(scene, most_characters)
    read = await asyncio.gather(*(_read_chunk(corpus, chunk, cast, reader, sampling) for chunk in chunks))
    outcomes = [one for outcomes in read for one in outcomes]
    turns = [one for one in outcomes if isinstance(one, Turn)]
    return turns, [one for one in outcomes if isinstance(one, Dropped)]


async def _read_chunk(
    corpus: Corpus, chunk: Chunk, cast: Cast, reader: Teacher, sampling: Sampling
) -> Sequence[Turn | Dropped]:
    task = Message("system", _TASK.format(names="; ".join(cast.described)))
    text = Message("user", without_turns(corpus.text[chunk.start : chunk.end]))
    where = {
        "chapter": chunk.scene.chapter,
        "start": chunk.start,
        "end": chunk.end,
        "line_number": corpus.line_number(chunk.start),
    }
    try:
        (reply,) = await reader.complete((task, text), sampling)
    except AnswerError as error:
        return _failed(chunk, error.reason, error.detail, where)
    if reply.finish_reason != "stop":
        return _failed(chunk, "reading_cut_off", f"finish_reason is {reply.finish_reason}, not stop", where)
    rows = read_reply(reply.text)
    if isinstance(rows, str):
        return _failed(chunk, "unreadable_json", rows, where)
    checked = checked_turns(corpus, chunk, rows, cast)
    return [Dropped(one.reason, one.detail, where) if isinstance(one, Dropped) else one for one in checked]


def _failed(chunk: Chunk, reason: str, detail: str, where: dict[str, Any]) -> Sequence[Turn | Dropped]:
    return [Dropped(reason, detail, where), Turn(None, "", chunk.start, chunk.end)]

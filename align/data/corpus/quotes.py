"""Quotes: what a teacher says is spoken in a chunk, checked against the text: no word of its own gets through."""

from __future__ import annotations

import re
from typing import Any

from align.data.corpus.corpus import Chunk, Corpus
from align.data.corpus.speakers import Cast, Turn
from align.data.rows.pair import Dropped
from align.text.model_json import whole_json
from align.text.normal import one_line, one_line_with_offsets, plain_quotation_marks
from align.text.scripts import UNSPACED, WIDE_MARKS
from align.text.shorten import quote

_HAN = re.compile(f"[{WIDE_MARKS}{UNSPACED}]")


def read_reply(reply: str) -> list[Any] | str:
    """The rows of a teacher's JSON, `{"lines": [{"speaker": …, "quote": …}]}` or the bare list; or what is wrong."""
    try:
        value = whole_json(reply, fence="any")
    except ValueError as error:
        return f"{error}: {quote(reply)}"
    rows = value.get("lines") if isinstance(value, dict) else value
    return rows if isinstance(rows, list) else f'must be {{"lines": [...]}}, but is {quote(value)}'


def checked_turns(corpus: Corpus, chunk: Chunk, rows: list[Any], cast: Cast) -> list[Turn | Dropped]:
    """The rows that stand in the text, as turns with the text's own words; every other with its reason.

    A quotation must stand in the chunk word for word, but for white space and the form of quotation marks. A speaker
    must be of the cast and named in the chunk. Words that are there, but whose speaker is not or is given twice, are
    a turn without speaker beside the reason. So is the place where words should be that are not there, behind the row
    before: a speech of the text may stand there in a changed form, and nobody answers across it.
    """
    chunk_text = corpus.text[chunk.start : chunk.end]
    here = {cast.name(variant) for variant in cast.variants if variant in chunk_text}
    plain, offsets = _plain(chunk_text)
    dropped: list[Turn | Dropped] = []
    speakers: dict[tuple[int, int], str | None] = {}
    holes: list[Turn] = []
    cursor = 0
    for row in rows:
        speaker, words = (row.get("speaker"), row.get("quote")) if isinstance(row, dict) else (None, None)
        if not isinstance(speaker, str) or not isinstance(words, str):
            text = f'must be {{"speaker": text, "quote": text}}, but is {quote(row)}'
            dropped.append(Dropped("unreadable_row", text))
            continue
        detail = f"{quote(speaker)}: {quote(words)}"
        span = _find(plain, words, cursor) or _find(plain, words, 0)
        if span is None:
            dropped.append(Dropped("quote_not_in_text", detail))
            hole = chunk.start + (offsets[cursor - 1] + 1 if cursor else 0)
            holes.append(Turn(None, "", hole, hole))
            continue
        cursor = span[1]
        name = cast.name(speaker)
        if span in speakers:
            is_same = speakers[span] == name
            dropped.append(Dropped("quote_repeated" if is_same else "quote_of_two_speakers", detail))
            speakers[span] = name if is_same else None
        else:
            if name not in here:
                dropped.append(Dropped("speaker_not_in_chunk", detail))
            speakers[span] = name if name in here else None
    turns = (
        Turn(name, one_line(corpus.text[start:end]), start, end)
        for (first, behind), name in speakers.items()
        for start, end in [(chunk.start + offsets[first], chunk.start + offsets[behind - 1] + 1)]
    )
    return [*dropped, *sorted([*turns, *holes], key=lambda turn: turn.start)]


def _find(plain: str, words: str, start: int) -> tuple[int, int] | None:
    """Where the words stand as whole words; the quotation marks around them need not."""
    wanted = _without_outer_marks(_plain(words)[0].strip())
    if not wanted:
        return None
    before = r"(?<![^\W_])" if wanted[0].isalnum() and not _HAN.match(wanted[0]) else ""
    after = r"(?![^\W_])" if wanted[-1].isalnum() and not _HAN.match(wanted[-1]) else ""
    match = re.compile(before + re.escape(wanted) + after).search(plain, start)
    return match.span() if match else None


def _without_outer_marks(words: str) -> str:
    """Without the pair of marks around it, or half a pair at one end; marks of a quotation inside stay."""
    if words.count('"') % 2:
        return words[1:].strip() if words.startswith('"') else words.removesuffix('"').strip()
    return words[1:-1].strip() if words.startswith('"') and words.endswith('"') else words


def _plain(text: str) -> tuple[str, list[int]]:
    """The text with one space for white space, none beside Chinese, plain quotation marks; and each one's offset."""
    line, offsets = one_line_with_offsets(text)
    return plain_quotation_marks(line), offsets

"""Said: the turns of a Chinese text by 曰, 道, 说 and their kin before a quotation, `孟子對曰：「…」`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from align.data.corpus.corpus import Corpus, Scene
from align.data.corpus.speakers import Cast, Turn
from align.text.normal import one_line

_QUOTED = re.compile("「[^「」]*」?|“[^“”]*”?")
_CLAUSE = re.compile(r"[^。！？；，,;!?：:」』”’》\s]*[：:，,]?\s*\Z")
_HOW = (
    "(?:喟然|愀然|[闻聞]之|莞[尔爾]而|愠[见見]|不[悦悅]|[复復对對答应應又亦乃遂因即则則便忙就笑哭泣怒喜哂叹歎问問言请請忧憂说說悦悅冷]"
    "|在[^，,]{1,6}){0,4}"
)
_TO = "(?:[谓謂告语語向问問]|[对對](?!曰)|[与與])[于於]?[^，,：:「“]{1,8}?"
_SAYS = "[曰道说說云问問]"


def said_turns(corpus: Corpus, scene: Scene, cast: Cast) -> list[Turn]:
    """Every quotation of the scene with its speaker, in order.

    The speaker is a name of the cast that opens the clause right before the quotation and is followed by nothing but
    how and to whom it is said. Anyone else, an omitted subject (曰：「…」) and a quotation in the text's own running
    words have no speaker. A quotation whose end is missing is a problem, not a line, and the next one nobody's.
    """
    says = re.compile(
        f"(?P<name>{'|'.join(map(re.escape, cast.variants))}){_HOW}(?:(?:{_TO})?{_SAYS}|{_TO})[：:，,]?\\s*"
    )
    return list(_turns(corpus, scene, cast, says))


def _turns(corpus: Corpus, scene: Scene, cast: Cast, says: re.Pattern[str]) -> Iterator[Turn]:
    text = corpus.text[scene.start : scene.end]
    behind = 0
    for quoted in _QUOTED.finditer(text):
        clause = _CLAUSE.search(text, behind, quoted.start())
        said = says.fullmatch(clause.group()) if clause else None
        is_closed = quoted.group()[-1] in "」”" and len(quoted.group()) > 1
        words = quoted.group()[1:-1] if is_closed else quoted.group()[1:]
        behind = quoted.end()
        if words.strip():
            yield Turn(
                speaker=cast.name(said["name"]) if said else None,
                text=one_line(words),
                start=scene.start + quoted.start() + 1,
                end=scene.start + quoted.end() - is_closed,
                problem="" if is_closed else "quote_not_closed",
            )

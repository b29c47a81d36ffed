"""Said: a Chinese quotation goes to the name that opens its own clause, or to nobody."""

from __future__ import annotations

import pytest

from align.data.corpus.corpus import Corpus
from align.data.corpus.said import said_turns
from align.data.corpus.speakers import Cast

CAST = Cast({"孔子": ["子", "夫子"], "孟子": [], "子贡": [], "王": [], "宝玉": [], "黛玉": ["林黛玉"], "公都子": []})


def turns(text):
    corpus = Corpus("book.txt", text)
    found = said_turns(corpus, corpus.scenes()[0], CAST)
    return [(turn.speaker, turn.problem or corpus.text[turn.start : turn.end]) for turn in found]


@pytest.mark.parametrize(
    ("before", "speaker"),
    [
        ("子曰", "孔子"),
        ("子谓子贡曰", "孔子"),
        ("子在川上曰", "孔子"),
        ("子闻之,曰", None),
        ("夫子莞尔而笑，曰", None),
        ("有子曰", None),
        ("子贡问曰", "子贡"),
        ("子贡问", "子贡"),
        ("子贡问于孔子曰", "子贡"),
        ("孟子對曰", "孟子"),
        ("孟子見梁惠王。王曰", "王"),
        ("王使人來曰", None),
        ("人謂孟子曰", None),
        ("孟子弟子曰", None),
        ("孟季子問公都子曰", None),
        ("公都子問曰", "公都子"),
        ("宝玉笑道", "宝玉"),
        ("宝玉忙向林黛玉笑道", "宝玉"),
        ("林黛玉冷笑道", "黛玉"),
        ("黛玉听了，冷笑道", None),
        ("宝玉的丫头说", None),
        ("孔子谓季氏", "孔子"),
        ("", None),
    ],
)
def test_the_speaker_is_the_name_that_opens_the_clause(before, speaker):
    assert turns(f"天色已晚。{before}：“可也。”") == [(speaker, "可也。")]


def test_a_subject_left_out_is_nobody():
    assert turns("孟子曰：「然。」\n\n曰：「何也？」\n\n曰：「否。」") == [
        ("孟子", "然。"),
        (None, "何也？"),
        (None, "否。"),
    ]


def test_a_quotation_inside_another_is_no_turn():
    assert turns("孟子曰：「孔子曰：『仁者無敵。』是也。」") == [("孟子", "孔子曰：『仁者無敵。』是也。")]


def test_a_quotation_may_go_on_over_paragraphs():
    assert turns("孟子曰：「一。\n\n二。」\n\n王曰：「善。」") == [("孟子", "一。\n\n二。"), ("王", "善。")]


def test_a_quotation_without_end_is_a_problem_and_what_follows_it_is_nobodys():
    assert turns("孟子曰：「一。\n\n王曰：「善。」") == [("孟子", "quote_not_closed"), (None, "善。")]

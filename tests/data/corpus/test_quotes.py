"""Quotes: nothing that a teacher says gets through unless it stands in the chunk."""

from __future__ import annotations

import pytest

from align.data.corpus.corpus import Chunk, Corpus
from align.data.corpus.quotes import checked_turns, read_reply
from align.data.corpus.speakers import Cast
from align.data.rows.pair import Dropped

TEXT = """“Have you a carriage, Jane?” said Mr. Bennet.

“I should be so glad,” said Jane,
“if they would
lend it. It's far.” ‘No,’ cried Lizzy. “No.”"""
CAST = Cast({"Jane": [], "Mr. Bennet": ["Papa"], "Elizabeth": ["Lizzy"], "Mary": []})


def checked(*rows, text=TEXT, cast=CAST):
    corpus = Corpus("novel.txt", text)
    chunk = Chunk(corpus.scenes()[0], 0, len(text))
    found = checked_turns(corpus, chunk, [{"speaker": who, "quote": words} for who, words in rows], cast)
    return [one.reason if isinstance(one, Dropped) else (one.speaker, one.text) for one in found]


def test_a_quotation_is_found_whatever_its_white_space_and_marks():
    assert checked(("Jane", '"if they would lend it. It\'s  far."')) == [("Jane", "if they would lend it. It's far.")]
    assert checked(("Lizzy", "No,")) == [("Elizabeth", "No,")]


@pytest.mark.parametrize(
    "words",
    ["I should be so happy", "I should be so glad, if they would", "ave you a carriage", "", " “” ", "said Mary"],
)
def test_words_that_are_not_there_are_dropped_and_leave_a_hole(words):
    assert checked(("Jane", words)) == ["quote_not_in_text", (None, "")]
    found = checked(("Papa", "Have you a carriage, Jane?"), ("Jane", words), ("Lizzy", "No."))
    assert found[1:] == [("Mr. Bennet", "Have you a carriage, Jane?"), (None, ""), ("Elizabeth", "No.")]


def test_the_same_words_twice_are_two_places():
    text = "“Yes.” said Jane. “Yes.” said Mary."
    assert checked(("Jane", "Yes."), ("Mary", "Yes."), text=text) == [("Jane", "Yes."), ("Mary", "Yes.")]


def test_a_speaker_outside_cast_or_chunk_leaves_the_words_to_nobody():
    for name in ("Darcy", "Mary"):
        assert checked((name, "No.")) == ["speaker_not_in_chunk", (None, "No.")]


def test_words_given_to_two_speakers_are_nobodys():
    rows = ("Jane", "I should be so glad,"), ("Papa", "I should be so glad,")
    assert checked(*rows) == ["quote_of_two_speakers", (None, "I should be so glad,")]
    assert checked(rows[0], rows[0]) == ["quote_repeated", ("Jane", "I should be so glad,")]


def test_turns_stand_in_the_order_of_the_text():
    found = checked(("Lizzy", "No."), ("Papa", "Have you a carriage, Jane?"))
    assert found == [("Mr. Bennet", "Have you a carriage, Jane?"), ("Elizabeth", "No.")]


def test_chinese_quotations_join_over_line_ends():
    cast = Cast({"宝玉": [], "黛玉": []})
    assert checked(("宝玉", "好妹妹，饶我罢！"), text="宝玉笑道：「好妹妹，\n饶我罢！」", cast=cast) == [
        ("宝玉", "好妹妹，饶我罢！")
    ]


@pytest.mark.parametrize("row", [None, 3, {"speaker": "Jane"}, {"speaker": "Jane", "quote": 3}])
def test_a_row_of_another_form_is_dropped(row):
    corpus = Corpus("novel.txt", TEXT)
    (found,) = checked_turns(corpus, Chunk(corpus.scenes()[0], 0, len(TEXT)), [row], CAST)
    assert isinstance(found, Dropped) and found.reason == "unreadable_row"


@pytest.mark.parametrize("reply", ['{"lines": []}', "[]", '```json\n{"lines": []}\n```', "```\n[]\n```"])
def test_a_reply_is_read_bare_or_fenced(reply):
    assert read_reply(reply) == []


@pytest.mark.parametrize("reply", ["", "Sure!", '{"lines": [', '{"rows": []}', '{"lines": {}}', '"text"', "null"])
def test_any_other_reply_is_unreadable_never_repaired(reply):
    assert isinstance(read_reply(reply), str)


@pytest.mark.parametrize(
    "reply",
    [
        "[" * 100_000,
        '{"lines": [{"speaker": "Jane", "speaker": "Mary", "quote": "No."}]}',
        '{"lines": [], "lines": [1]}',
    ],
)
def test_a_reply_that_is_too_deep_or_contradicts_itself_is_unreadable(reply):
    found = read_reply(reply)
    assert isinstance(found, str) and ("nested too deep" in found or "the same name twice" in found)

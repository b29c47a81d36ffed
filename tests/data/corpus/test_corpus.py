"""Corpus: every encoding that users have gives the same text, and chapters, scenes and positions are where they are."""

from __future__ import annotations

import pytest

from align.data.corpus.corpus import read_corpus
from align.errors import ConfigError, DataError

NOVEL = (
    "第一回\u3000甄士隐梦幻识通灵\r\n\r\n\u3000\u3000宝玉笑道：“好。”\r\n\r\n第二回 贾夫人\r\n\r\n　　黛玉不语。\r\n"
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_the_same_text_whatever_the_encoding(tmp_path, encoding):
    (tmp_path / "novel.txt").write_bytes(NOVEL.encode(encoding))
    corpus = read_corpus(str(tmp_path / "novel.txt"))
    assert corpus.text == "第一回 甄士隐梦幻识通灵\n\n  宝玉笑道：“好。”\n\n第二回 贾夫人\n\n  黛玉不语。\n"
    assert [scene.chapter for scene in corpus.scenes()] == ["第一回 甄士隐梦幻识通灵", "第二回 贾夫人"]


def test_bytes_that_are_neither_name_the_byte(tmp_path):
    (tmp_path / "novel.txt").write_bytes("好".encode() + b"\xff\xff")
    with pytest.raises(DataError, match="byte 3 is not UTF-8 and byte 2 not GB18030"):
        read_corpus(str(tmp_path / "novel.txt"))


@pytest.mark.parametrize(("data", "problem"), [(b" \n", "is empty"), (b"a\0b", "holds NUL")])
def test_a_file_without_plain_text_is_refused(tmp_path, data, problem):
    (tmp_path / "novel.txt").write_bytes(data)
    with pytest.raises(DataError, match=problem):
        read_corpus(str(tmp_path / "novel.txt"))


def corpus_of(tmp_path, text):
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    return read_corpus(str(tmp_path / "text.txt"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ACT I.\nScene I. A hall.\nyes\nScene II.\nno\nACT II\nwell", [("ACT I", 2), ("ACT I", 2), ("ACT II", 1)]),
        ("CHAPTER 1\nActs little of his will.\nCHAPTER II. The End\nb", [("CHAPTER 1", 1), ("CHAPTER II. The End", 1)]),
        ("# One\ntext\n## Part\nmore\n# Two\ntext", [("One", 1), ("One", 2), ("Two", 1)]),
        ("第十二章 雨\n甲\n第二节\n乙\n第三章他没有来。\n丙", [("第十二章 雨", 1), ("第十二章 雨", 2)]),
        ("no heading at all", [("text.txt", 1)]),
        ("CHAPTER 1\nCHAPTER 2\nCHAPTER 1\nfirst\nCHAPTER 2\nsecond", [("CHAPTER 1", 1), ("CHAPTER 2", 1)]),
    ],
)
def test_chapters_and_scenes_by_their_headings(tmp_path, text, expected):
    scenes = corpus_of(tmp_path, text).scenes()
    assert [scene.chapter for scene in scenes] == [chapter for chapter, _ in expected]
    assert [bool(scene.title) for scene in scenes] == [levels == 2 for _, levels in expected]


def test_headings_of_ones_own(tmp_path):
    corpus = corpus_of(tmp_path, "One * * *\na\nTwo * * *\nb")
    assert [scene.chapter for scene in corpus.scenes(r"\w+ \* \* \*")] == ["One * * *", "Two * * *"]


def test_a_position_leads_back_to_its_line_and_words(tmp_path):
    corpus = corpus_of(tmp_path, "# One\n\nfirst\nsecond\n\nthird\n")
    scene = corpus.scenes()[0]
    spans = list(corpus.paragraphs(scene.start, scene.end))
    assert [corpus.text[start:end] for start, end in spans] == ["first\nsecond", "third"]
    assert [corpus.line_number(start) for start, _ in spans] == [3, 6]


def test_chunks_are_whole_paragraphs_that_hold_everything_once(tmp_path):
    text = "\n\n".join(f"paragraph {number} " + "word " * (number % 40) for number in range(100))
    corpus = corpus_of(tmp_path, text)
    scene = corpus.scenes()[0]
    chunks = corpus.chunks(scene, 400)
    parts = [corpus.text[chunk.start : chunk.end] for chunk in chunks]
    assert "\n\n".join(parts).split() == text.split()
    assert all(len(part) <= 400 and part.startswith("paragraph ") for part in parts)
    assert chunks == corpus.chunks(scene, 400)


def test_a_book_of_sayings_has_a_scene_a_paragraph(tmp_path):
    assert len(corpus_of(tmp_path, "# One\n\na\n\nb\n\n# Two\n\nc").scenes(by_paragraph=True)) == 3


def test_chapters_as_json_are_text_with_headings(tmp_path):
    (tmp_path / "book.json").write_text('[{"chapter": "学而", "paragraphs": ["甲", "乙"]}]', encoding="utf-8")
    corpus = read_corpus(str(tmp_path / "book.json"))
    assert corpus.text == "# 学而\n\n甲\n\n乙" and corpus.scenes()[0].chapter == "学而"
    (tmp_path / "book.json").write_text('{"a": 1}', encoding="utf-8")
    with pytest.raises(DataError, match="must be a list of"):
        read_corpus(str(tmp_path / "book.json"))


def test_a_file_inside_an_installed_package(tmp_path):
    assert read_corpus("package:align/evaluation/general_text.txt").name == "general_text.txt"
    with pytest.raises(ConfigError, match="no installed package 'nowhere'"):
        read_corpus("package:nowhere/x.txt")
    with pytest.raises(ConfigError, match="must be a text file"):
        read_corpus("package:email/nothing.txt")

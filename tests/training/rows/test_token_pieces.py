"""Token pieces: every token is shown once, and nothing that a terminal cannot show."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from align.training.rows.token_pieces import pieces
from tests.training.rows.templated import templated_tokenizer

TOKENIZERS = [templated_tokenizer("qwen3", with_merges) for with_merges in (False, True)]


def shown(text, tokenizer=TOKENIZERS[1]):
    return list(pieces(tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer))


def test_a_character_of_several_tokens_is_one_piece_with_their_number():
    assert list(map(str, shown("aé🙂", TOKENIZERS[0]))) == ["a", "é₂", "🙂₄"]


def test_special_tokens_are_told_from_text():
    assert [(piece.text, piece.is_special) for piece in shown("<think>a<|im_end|>")] == [
        ("<think>", True),
        ("a", False),
        ("<|im_end|>", True),
    ]


def test_what_cannot_be_seen_is_written_out():
    assert "".join(map(str, shown("a\nb\t\x1b[31m\u200b", TOKENIZERS[0]))) == "a⏎\nb\\t\\x1b[31m\\u200b₃"


def test_bytes_that_are_no_character_are_shown():
    tokenizer = TOKENIZERS[0]
    ids = tokenizer("🙂" * 3)["input_ids"]
    found = list(pieces([ids[0]] * 20, tokenizer))
    assert sum(piece.num_tokens for piece in found) == 20


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_pieces_hold_all_tokens_and_all_text(text):
    for tokenizer in TOKENIZERS:
        found = shown(text, tokenizer)
        assert sum(piece.num_tokens for piece in found) == len(tokenizer(text, add_special_tokens=False)["input_ids"])
        printable = "".join(character for character in text if character.isprintable())
        if printable == text:
            assert "".join(piece.text for piece in found) == text

"""Token view: what `align lint --tokens` prints."""

from __future__ import annotations

import pytest

from align.data.files.rows import write_rows
from align.data.rows.pair import Candidate, Demonstration, Group, Message, PreferencePair, Prompt
from align.errors import DataError
from align.models.load import load_tokenizer
from align.training.rows.token_pieces import pieces
from align.training.rows.view import coloured, print_tokens

ASKED = (Message("user", "Hi?"),)


def said(text):
    return (Message("assistant", text),)


@pytest.fixture
def printed(tmp_path, tiny_model, capsys):
    def run(*rows, **arguments):
        path = tmp_path / "rows.jsonl"
        write_rows(path, rows)
        print_tokens(tiny_model, path, **arguments)
        return capsys.readouterr().out.replace(str(path), "rows.jsonl")

    return run


def test_only_answer_tokens_stand_in_brackets(printed):
    text = printed(PreferencePair(ASKED, said("Yes\n春"), said("No")))
    assert "rows.jsonl:1: prompt 22, chosen 9, rejected 4 tokens" in text
    assert "prompt:\n<|im_start|>user⏎\nHi?<|im_end|>⏎\n<|im_start|>assistant⏎\n" in text
    assert "chosen:\n[Y][e][s][⏎]\n[春₃][<|im_end|>][⏎]\n" in text
    assert "rejected:\n[N][o][<|im_end|>][⏎]\n" in text


def test_every_kind_of_row_is_shown(printed):
    assert "completion:\n[Y][<|im_end|>]" in printed(Demonstration(ASKED, said("Y")))
    group = printed(Group(ASKED, tuple(Candidate(said(text)) for text in "YN")))
    assert "candidates[0]:\n[Y]" in group and "candidates[1]:\n[N]" in group
    assert printed(Prompt(ASKED)).endswith("assistant⏎\n")


def test_the_number_of_rows_and_the_ids_are_as_asked(printed, tiny_model):
    rows = [PreferencePair(ASKED, said("Y"), said(text)) for text in "abcde"]
    text = printed(*rows, num_rows=2, with_ids=True)
    assert "rows.jsonl:2:" in text and "rows.jsonl:3:" not in text
    ids = load_tokenizer(tiny_model)("b<|im_end|>\n")["input_ids"]
    assert f"ids: {' '.join(map(str, ids))}" in text


def test_a_row_that_training_would_refuse_says_why(printed):
    text = printed(PreferencePair(ASKED, said("Yes<|im_end|>"), said("No")))
    assert "training would refuse or drop this row (double_end_of_sequence): chosen must end" in text


def test_a_terminal_shows_trained_tokens_green_and_special_ones_apart(tiny_model):
    tokenizer = load_tokenizer(tiny_model)
    found = list(pieces(tokenizer("ab<|im_end|>")["input_ids"], tokenizer))
    styles = [span.style for span in coloured(found, is_trained=True).spans]
    assert styles == ["green", "bright_green", "green bold reverse"]
    assert all(span.style.startswith("dim") for span in coloured(found, is_trained=False).spans)


def test_a_file_without_a_row_is_an_error(tmp_path, tiny_model):
    (tmp_path / "rows.jsonl").write_text('{"prompt": 1, "chosen": 2}\n')
    with pytest.raises(DataError, match="no row can be read"):
        print_tokens(tiny_model, tmp_path / "rows.jsonl")

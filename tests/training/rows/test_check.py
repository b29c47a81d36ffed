"""Tokens: rows that TRL would cut, drop or teach wrongly are named before training."""

from __future__ import annotations

import pytest

from align.errors import DataError
from align.models.load import load_tokenizer
from align.training.rows.check import check_tokens


@pytest.fixture
def tokenizer(tiny_model):
    return load_tokenizer(tiny_model)


def row(answer: str = "yes") -> dict:
    return {
        "prompt": [{"role": "user", "content": "?"}],
        "chosen": [{"role": "assistant", "content": answer}],
        "rejected": [{"role": "assistant", "content": "no"}],
    }


def check(tokenizer, rows, max_length=None, on_bad_rows="fail"):
    places = [f"x.jsonl:{number}" for number in range(1, len(rows) + 1)]
    return check_tokens(rows, places, ("chosen", "rejected"), tokenizer, max_length, on_bad_rows)


def test_tokens_of_the_learned_side_are_counted(tokenizer):
    kept, report = check(tokenizer, [row(), row("yes!")])
    assert list(kept) == [0, 1]
    assert report.num_learned == 3 + 4 + 2 * 2  # byte tokens, and end of turn plus newline for each
    assert report.num_too_long == 0


def test_a_row_that_just_fits_is_kept_and_one_token_more_is_not(tokenizer):
    _, report = check(tokenizer, [row("a" * 50)])
    kept, _ = check(tokenizer, [row("a" * 50)], max_length=report.longest)
    assert kept == {0: report.longest}
    with pytest.raises(DataError, match=r"x.jsonl:1 \("):
        check(tokenizer, [row("a" * 50)], max_length=report.longest - 1)


def test_dropping_the_last_row_is_refused(tokenizer):
    with pytest.raises(DataError, match="1 of 1 rows are longer"):
        check(tokenizer, [row("a" * 50)], max_length=20, on_bad_rows="drop")


def test_a_template_that_opens_a_thought_is_refused_and_shown(tokenizer):
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "assistant\n{% endif %}", "assistant\n<think>\n{% endif %}"
    )
    with pytest.raises(DataError, match=r"x.jsonl:1: the chat template ends the prompt alone with '.*<think>"):
        check(tokenizer, [row()])


def test_an_end_of_sequence_that_the_template_does_not_write_is_refused(tokenizer):
    tokenizer.eos_token = "<|bos|>"
    with pytest.raises(DataError, match=r"x.jsonl:1: chosen must end with the end-of-sequence token '<\|bos\|>'"):
        check(tokenizer, [row()])


def test_faulty_rows_are_dropped_and_counted_by_reason(tokenizer):
    rows = [row(), row("yes<|im_end|>"), row("a" * 80), row("no<|im_end|>")]
    kept, report = check(tokenizer, rows, max_length=60, on_bad_rows="drop")
    assert list(kept) == [0]
    assert report.dropped == {"double_end_of_sequence": 2, "too_long": 1}
    assert report.num_too_long == 1


def test_every_reason_is_named_in_one_error(tokenizer):
    rows = [row(), row("yes<|im_end|>"), row("a" * 80), row("no<|im_end|>")]
    with pytest.raises(DataError) as error:
        check(tokenizer, rows, max_length=60)
    first, second = str(error.value).splitlines()
    assert (
        first.startswith("x.jsonl:2: chosen must end with '<|im_end|>' once")
        and "(double_end_of_sequence: 2 of 4 rows)" in first
    )
    assert second.startswith("1 of 4 rows are longer than trainer.max_length=60 tokens: x.jsonl:3 (")
    assert second.endswith("Or leave them out with data: {on_bad_rows: drop}.")


def test_an_end_of_sequence_that_no_row_has_is_refused_under_drop_too(tokenizer):
    tokenizer.eos_token = "<|bos|>"
    with pytest.raises(DataError, match="must end with the end-of-sequence token"):
        check(tokenizer, [row(), row("yes!")], on_bad_rows="drop")


def test_another_end_of_the_generation_config_counts(tokenizer):
    end = tokenizer.eos_token_id
    tokenizer.eos_token = "<|bos|>"
    rows, places = [row()], ["x.jsonl:1"]
    kept, _ = check_tokens(rows, places, ("chosen", "rejected"), tokenizer, None, "fail", end_ids=[end])
    assert list(kept) == [0]

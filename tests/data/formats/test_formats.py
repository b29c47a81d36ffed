"""Formats: what a format can carry comes back the same, and what it cannot is refused by name."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from align.data.convert import convert
from align.data.files.rows import read_rows, write_rows
from align.data.formats.formats import FORMATS, NAMES, looks_like
from align.data.rows.labelled import LabelledCompletion
from align.data.rows.pair import Demonstration, Message, PreferencePair, RowError
from align.errors import ConfigError, DataError
from tests.data.rows.test_pair import answers, metas, pairs, questions, said

SYSTEM, USER, TOOL = Message("system", "慢慢说。"), Message("user", "你是谁？"), Message("tool", "4")
GOOD, POOR = Message("assistant", "以实玛利。"), Message("assistant", "A bot.")
PAIR = PreferencePair((USER,), (GOOD,), (POOR,), {"n": 1})

plain = st.builds(
    lambda question, chosen, rejected, meta: PreferencePair(
        (Message("user", question),), (Message("assistant", chosen),), (Message("assistant", rejected),), meta
    ),
    said,
    said.map(lambda text: text + "a"),
    said.map(lambda text: text + "b"),
    metas,
)
demonstrations = st.builds(Demonstration, questions(), answers(), metas)
suffixes = st.sampled_from([".jsonl", ".json", ".parquet"])


@settings(deadline=None, max_examples=60)
@given(st.lists(plain | pairs | demonstrations, min_size=1, max_size=4), st.sampled_from(NAMES), suffixes)
def test_each_row_comes_back_or_is_refused_by_name(rows: list[Any], name: str, suffix: str) -> None:
    rows = [row for row in rows if type(row) is type(rows[0])]
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        write_rows(folder / "rows.jsonl", rows)
        try:
            there = convert(folder / "rows.jsonl", folder / f"there{suffix}", name, drop=True)
        except DataError as error:
            assert "no row is left" in str(error)
            return
        refused = {int(one.where.rpartition(":")[2]) for one in there.bad}
        assert all(one.reason and one.detail for one in there.bad)
        back = convert(there.target, folder / "back.jsonl", "align", None if name != "swift" else "swift")
        kept = [row for number, row in enumerate(rows, start=1) if number not in refused]
        assert read_rows(back.target, type(rows[0])).rows == kept


@settings(deadline=None, max_examples=60)
@given(st.lists(plain, min_size=1, max_size=4), st.sampled_from(NAMES), suffixes)
def test_every_format_carries_plain_pairs_and_their_meta(rows: list[Any], name: str, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        write_rows(folder / "rows.jsonl", rows)
        there = convert(folder / "rows.jsonl", folder / f"there{suffix}", name)
        assert there.bad == []
        convert(there.target, folder / "back.jsonl", "align")
        back = read_rows(folder / "back.jsonl", PreferencePair).rows
    key = json.dumps
    assert sorted(key(row.to_dict()) for row in back) == sorted(key(row.to_dict()) for row in rows)
    if name != "kto":
        assert back == rows


@settings(deadline=None)
@given(pairs, st.sampled_from(list(FORMATS)))
def test_a_written_row_looks_like_its_own_format_only(pair: PreferencePair, name: str) -> None:
    assume(PreferencePair in FORMATS[name].kinds)
    try:
        written = FORMATS[name].write(pair)
    except RowError:
        assume(False)
    assert looks_like(written) == [name]


@pytest.mark.parametrize(
    ("name", "pair", "reason"),
    [
        ("trl-text", PreferencePair((SYSTEM, USER), (GOOD,), (POOR,)), "several_turns"),
        ("trl-text", PreferencePair((USER,), (GOOD, TOOL, GOOD), (POOR,)), "side_of_several_messages"),
        ("trl-implicit", PreferencePair((USER,), (GOOD, TOOL, GOOD), (GOOD,)), "shared_start"),
        ("swift-messages", PreferencePair((USER,), (GOOD, TOOL, GOOD), (GOOD,)), "shared_start"),
        ("alpaca", PreferencePair((USER, GOOD, TOOL), (GOOD,), (POOR,)), "tool_turn"),
        ("alpaca", PreferencePair((USER,), (GOOD,), (POOR, TOOL, POOR)), "side_of_several_messages"),
        ("alpaca", PreferencePair((Message("system", ""), USER), (GOOD,), (POOR,)), "empty_system"),
        ("sharegpt", PreferencePair((USER, GOOD, TOOL, TOOL), (GOOD,), (POOR,)), "several_tools_in_a_row"),
        ("sharegpt", PreferencePair((USER,), (GOOD, TOOL, GOOD), (POOR,)), "side_of_several_messages"),
        ("swift", PreferencePair((USER, GOOD, TOOL), (GOOD,), (POOR,)), "tool_turn"),
        ("swift", PreferencePair((USER,), (GOOD,), (POOR, TOOL, POOR)), "side_of_several_messages"),
    ],
)
def test_what_a_format_has_no_place_for_is_refused(name: str, pair: PreferencePair, reason: str) -> None:
    with pytest.raises(RowError) as caught:
        FORMATS[name].write(pair)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        (
            "alpaca",
            {"instruction": "Add", "input": "1 + 1", "system": "慢慢说。", "history": [["你是谁？", "以实玛利。"]]}
            | {"chosen": "2", "rejected": "3", "id": 7},
            PreferencePair(
                (SYSTEM, USER, GOOD, Message("user", "Add\n1 + 1")),
                (Message("assistant", "2"),),
                (Message("assistant", "3"),),
                {"id": 7},
            ),
        ),
        ("alpaca", {"instruction": "你是谁？", "input": "", "output": "A bot."}, Demonstration((USER,), (POOR,))),
        (
            "alpaca",
            {"instruction": "你是谁？", "output": "A bot.", "kto_tag": False},
            LabelledCompletion((USER,), (POOR,), False),
        ),
        (
            "sharegpt",
            {"conversations": [{"from": "human", "value": "你是谁？"}, {"from": "gpt", "value": "A bot."}]},
            Demonstration((USER,), (POOR,)),
        ),
        (
            "swift",
            {"messages": [USER.to_dict(), GOOD.to_dict()], "rejected_response": "A bot."},
            PreferencePair((USER,), (GOOD,), (POOR,)),
        ),
        (
            "swift",
            {"messages": [USER.to_dict(), POOR.to_dict()], "label": False},
            LabelledCompletion((USER,), (POOR,), False),
        ),
        (
            "kto",
            {"prompt": "你是谁？", "completion": "A bot.", "label": False},
            LabelledCompletion((USER,), (POOR,), False),
        ),
        (
            "trl-implicit",
            {
                "prompt": "你是谁？",
                "chosen": [USER.to_dict(), GOOD.to_dict()],
                "rejected": [USER.to_dict(), POOR.to_dict()],
            },
            PreferencePair((USER,), (GOOD,), (POOR,)),
        ),
    ],
)
def test_rows_as_other_libraries_document_them_are_read(name: str, values: dict[str, Any], expected: Any) -> None:
    assert looks_like(values) == [name]
    assert FORMATS[name].read(values) == expected


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("alpaca", {"instruction": "你是谁？", "chosen": "a", "rejected": "b", "images": ["a.png"]}, "images"),
        ("sharegpt", {"conversations": [{"from": "function_call", "value": "{}"}]}, "wrong_role"),
        ("swift", {"messages": [USER.to_dict(), POOR.to_dict()], "label": 3}, "wrong_type"),
        ("trl-implicit", {"chosen": "\n\nHuman: Hi", "rejected": "\n\nHuman: Hey"}, "implicit_text"),
        (
            "trl-implicit",
            {"prompt": "?", "chosen": [USER.to_dict(), GOOD.to_dict()], "rejected": [USER.to_dict(), POOR.to_dict()]},
            "prompt_differs",
        ),
        ("alpaca", {"instruction": "a", "chosen": "b", "rejected": "c", "id": 1, "meta": '{"id": 2}'}, "twice_in_meta"),
    ],
)
def test_what_rows_have_no_place_for_is_refused(name: str, values: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError) as caught:
        FORMATS[name].read(values)
    assert caught.value.reason == reason


def test_columns_that_fit_two_formats_are_asked_about(tmp_path: Path) -> None:
    row = {"instruction": "Hi", "output": "Ho", "conversations": []}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match="fit alpaca and sharegpt; say which with --from alpaca or --from sharegpt"):
        convert(tmp_path / "a.jsonl", tmp_path / "b.jsonl", "align")


def test_columns_that_fit_none_are_told_all(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "Hi", "good": "Ho"}')
    with pytest.raises(DataError, match=r"\(question, good\) fit no format(.|\n)*swift: messages"):
        convert(tmp_path / "a.jsonl", tmp_path / "b.jsonl", "align")


def test_an_unknown_format_is_told_all(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", [PAIR])
    with pytest.raises(ConfigError, match="orpo is not a format; there are align, trl-implicit"):
        convert(tmp_path / "a.jsonl", tmp_path / "b.jsonl", "orpo")

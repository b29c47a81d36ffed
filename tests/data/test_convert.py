"""Convert: whole files; each row that is not written is named by line, and nothing is overwritten."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from align.data.convert import convert
from align.data.files.rows import checked_rows, read_rows, write_rows
from align.data.formats import formats
from align.data.rows.labelled import LabelledCompletion
from align.data.rows.pair import Demonstration, Message, PreferencePair
from align.errors import ConfigError, DataError
from align.settings import names

USER, GOOD, POOR = Message("user", "你是谁？"), Message("assistant", "以实玛利。"), Message("assistant", "A bot.")
PAIR = PreferencePair((USER,), (GOOD,), (POOR,), {"来源": "白鲸"})
ALPACA = {"instruction": "你是谁？", "input": "", "chosen": "以实玛利。", "rejected": "A bot."}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_rows(tmp_path / "pairs.jsonl", [PAIR])
    return tmp_path / "pairs.jsonl"


def write_array(path: Path, rows: list[Any], indent: int | None = 2) -> Path:
    path.write_text(json.dumps(rows, ensure_ascii=False, indent=indent), encoding="utf-8")
    return path


def test_an_array_is_read_object_by_object_and_named_by_line(tmp_path: Path) -> None:
    path = write_array(tmp_path / "a.json", [ALPACA, {**ALPACA, "chosen": ""}, 3, ALPACA])
    done = convert(path, tmp_path / "b.jsonl", "align", drop=True)
    assert (done.num_read, done.num_written) == (4, 2)
    assert [(one.where, one.reason) for one in done.bad] == [(f"{path}:8", "blank"), (f"{path}:14", "not_an_object")]


def test_an_array_larger_than_what_is_read_at_a_time_comes_whole(tmp_path: Path) -> None:
    rows = [{**ALPACA, "chosen": f"{number}" + "长" * (number * 40_000)} for number in range(1, 30)]
    done = convert(write_array(tmp_path / "a.json", rows), tmp_path / "b.jsonl", "align")
    read = read_rows(done.target, PreferencePair).rows
    assert [pair.chosen[0].content for pair in read] == [row["chosen"] for row in rows]


@pytest.mark.parametrize("num_bytes", [1, 20, 60, 200, 201])
def test_a_cut_off_array_is_no_file(tmp_path: Path, num_bytes: int) -> None:
    path = write_array(tmp_path / "a.json", [ALPACA, ALPACA])
    path.write_bytes(path.read_bytes()[:-num_bytes])
    with pytest.raises(DataError, match=r"a\.json(:\d+: the JSON array|: must be UTF-8)"):
        convert(path, tmp_path / "b.jsonl", "align")
    assert not (tmp_path / "b.jsonl").exists()


def test_what_json_allows_and_rows_do_not_is_a_bad_row_of_an_array(tmp_path: Path) -> None:
    good = json.dumps(ALPACA)
    text = f'[{good},\n{{"instruction": "a", "instruction": "b"}},\n{{"id": NaN}},\n{{"id": "\\ud800"}},\n{good}]'
    (tmp_path / "a.json").write_text(text)
    done = convert(tmp_path / "a.json", tmp_path / "b.jsonl", "align", drop=True)
    found = [(one.where.rpartition(":")[2], one.reason) for one in done.bad]
    assert (done.num_written, found) == (2, [("2", "duplicate_key"), ("3", "not_finite"), ("4", "lone_surrogate")])


def test_without_drop_a_row_that_cannot_be_carried_stops_everything(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", [PAIR, PreferencePair((Message("system", "x"), USER), (GOOD,), (POOR,))])
    with pytest.raises(DataError, match=r"1 of 2 rows cannot be used \(several_turns 1\)(.|\n)*a.jsonl:2(.|\n)*--drop"):
        convert(tmp_path / "a.jsonl", tmp_path / "b.jsonl", "trl-text")
    assert [one.name for one in tmp_path.iterdir()] == ["a.jsonl"]


def test_an_existing_file_is_never_overwritten(source: Path) -> None:
    with pytest.raises(ConfigError, match="is there already"):
        convert(source, source, "align")
    assert read_rows(source, PreferencePair).rows == [PAIR]


def test_completions_find_the_partner_of_their_prompt_and_the_others_are_counted(tmp_path: Path) -> None:
    other = (Message("user", "Where?"),)
    rows = [
        LabelledCompletion((USER,), (POOR,), False, {"n": 1}),
        LabelledCompletion(other, (GOOD,), True),
        LabelledCompletion((USER,), (GOOD,), True, {"n": 2}),
        LabelledCompletion((USER,), (GOOD,), True),
    ]
    write_rows(tmp_path / "kto.jsonl", rows)
    done = convert(tmp_path / "kto.jsonl", tmp_path / "pairs.jsonl", "align", drop=True)
    expected = PreferencePair((USER,), (GOOD,), (POOR,), {"chosen": {"n": 2}, "rejected": {"n": 1}})
    assert read_rows(done.target, PreferencePair).rows == [expected]
    found = [(one.where.rpartition(":")[2], one.reason) for one in done.bad]
    assert found == [("2", "no_partner"), ("4", "no_partner")]


def test_rows_of_two_kinds_are_not_mixed(tmp_path: Path) -> None:
    demonstration = {"instruction": "Hi", "output": "Ho"}
    path = write_array(tmp_path / "a.json", [ALPACA, demonstration, ALPACA])
    done = convert(path, tmp_path / "b.jsonl", "align", drop=True)
    assert ([one.reason for one in done.bad], done.num_written) == (["other_kind"], 2)


def test_llama_factory_gets_an_entry_and_keeps_the_others(source: Path) -> None:
    info = source.with_name("dataset_info.json")
    info.write_text('{"别的": {"file_name": "else.json", "columns": {"prompt": "q"}}}', encoding="utf-8")
    done = convert(source, source.with_name("mine.json"), "llama-factory")
    entries = json.loads(info.read_text(encoding="utf-8"))
    assert done.entry == info
    assert entries["别的"] == {"file_name": "else.json", "columns": {"prompt": "q"}}
    columns = {"messages": "conversations", "system": "system", "chosen": "chosen", "rejected": "rejected"}
    assert entries["mine"] == {"file_name": "mine.json", "formatting": "sharegpt", "ranking": True, "columns": columns}
    assert "别的" in info.read_text(encoding="utf-8")


def test_an_entry_of_another_file_is_not_taken(source: Path) -> None:
    source.with_name("dataset_info.json").write_text('{"mine": {"hf_hub_url": "someone/mine"}}')
    with pytest.raises(ConfigError, match=r"the entry mine must be free or of mine[.]json, but is of another source"):
        convert(source, source.with_name("mine.json"), "llama-factory")
    assert not source.with_name("mine.json").exists()


@pytest.mark.parametrize(
    ("entry", "row"),
    [
        (
            {"ranking": True, "columns": {"prompt": "q", "chosen": "win", "rejected": "lose", "system": "sys"}},
            {"q": "你是谁？", "win": "以实玛利。", "lose": "A bot.", "sys": ""},
        ),
        (
            {
                "formatting": "sharegpt",
                "ranking": True,
                "columns": {"messages": "turns", "chosen": "win", "rejected": "lose"},
                "tags": {"role_tag": "who", "content_tag": "says", "user_tag": "Q", "assistant_tag": "A"},
            },
            {
                "turns": [{"who": "Q", "says": "你是谁？"}],
                "win": {"who": "A", "says": "以实玛利。"},
                "lose": {"who": "A", "says": "A bot."},
            },
        ),
    ],
)
def test_a_file_is_read_through_its_entry(tmp_path: Path, entry: dict[str, Any], row: dict[str, Any]) -> None:
    (tmp_path / "dataset_info.json").write_text(json.dumps({"mine": {"file_name": "a.json", **entry}}))
    done = convert(write_array(tmp_path / "a.json", [row]), tmp_path / "b.jsonl", "align")
    assert done.source_format == "llama-factory"
    assert read_rows(done.target, PreferencePair).rows == [PreferencePair((USER,), (GOOD,), (POOR,))]


def test_a_recipe_that_meets_a_foreign_file_names_the_command(tmp_path: Path) -> None:
    path = tmp_path / "alpaca data.jsonl"
    path.write_text(json.dumps(ALPACA))
    with pytest.raises(DataError) as caught:
        checked_rows(path, PreferencePair)
    target = tmp_path / "alpaca data-pairs.jsonl"
    command = f"they look like alpaca; to convert them: align convert '{path}' '{target}' --to align"
    assert command in str(caught.value)
    with pytest.raises(DataError, match="they look like alpaca"):
        checked_rows(path, Demonstration)
    convert(path, target, "align")
    assert checked_rows(target, PreferencePair).rows == [PreferencePair((USER,), (GOOD,), (POOR,))]


def test_a_recipe_that_meets_a_json_file_names_the_command(tmp_path: Path) -> None:
    path = write_array(tmp_path / "a.json", [ALPACA])
    with pytest.raises(
        ConfigError, match=r"ends in \.json; convert it: align convert .*a\.json .*a-pairs\.jsonl --to align"
    ):
        checked_rows(path, PreferencePair)


def test_our_own_bad_rows_are_not_sent_to_convert(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({**PAIR.to_dict(), "chosen": []}))
    with pytest.raises(DataError) as caught:
        checked_rows(tmp_path / "a.jsonl", PreferencePair)
    assert "align convert" not in str(caught.value)


def test_the_command_says_what_it_did(source: Path) -> None:
    words = ["convert", str(source), str(source.with_name("a.json")), "--to", "llama-factory"]
    done = subprocess.run([sys.executable, "-m", "align.cli", *words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        f"{source} (align): 1 rows read",
        f"{source.with_name('a.json')} (llama-factory): 1 pairs written",
        f"  {source.with_name('dataset_info.json')} names it a",
    ]


def test_the_command_knows_every_format() -> None:
    assert set(names.FORMATS) == set(formats.NAMES)
    assert all(one.name == name for name, one in formats.FORMATS.items())

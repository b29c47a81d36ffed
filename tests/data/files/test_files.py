"""Files of rows: whatever the bytes are, each row is read or named as bad, and what is written is whole."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from align.data.files.rows import checked_rows, read_prompts, read_rows, write_rows
from align.data.rows.pair import Demonstration, Dropped, Message, PreferencePair, Prompt, Row
from align.errors import ConfigError, DataError, StorageError
from tests.data.rows.test_pair import pairs, rows
from tests.store.limits import files_end_at

PAIR = PreferencePair(
    (Message("user", "你是谁？"),), (Message("assistant", "以实玛利。"),), (Message("assistant", "A bot."),), {"n": 1}
)
LINE = json.dumps(PAIR.to_dict(), ensure_ascii=False).encode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pairs.jsonl"


def fault_of(path: Path, line: bytes) -> str:
    """What is said of a line between two good ones."""
    path.write_bytes(LINE + b"\n" + line + b"\n" + LINE + b"\n")
    file = read_rows(path, PreferencePair)
    assert (file.lines, len(file.bad)) == ([1, 3], 1)
    assert file.bad[0].where == f"{path}:2"
    return f"{file.bad[0].reason}: {file.bad[0].detail}"


@settings(deadline=None)
@given(rows, st.sampled_from(["jsonl", "parquet"]))
def test_any_row_comes_back_from_a_file(row: Row, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"rows.{suffix}")
        write_rows(path, [row, row])
        file = read_rows(path, type(row))
    assert (file.rows, file.lines, file.bad) == ([row, row], [1, 2], [])


@settings(deadline=None)
@given(st.lists(pairs, min_size=2, max_size=4))
def test_pairs_with_different_meta_come_back_from_parquet(written: list[PreferencePair]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.parquet")
        write_rows(path, written)
        assert read_rows(path, PreferencePair).rows == written


PIECES = (
    b"\n",
    b"\r\n",
    b" ",
    b"{",
    b"}",
    b'"',
    b"\\ud83d",
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    LINE,
    b'{"a": 1}',
    b"[",
)


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200) | st.lists(st.sampled_from(PIECES) | st.binary(max_size=4), max_size=12).map(b"".join))
def test_arbitrary_bytes_are_read_row_by_row_or_refused_as_a_whole(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.jsonl")
        path.write_bytes(content)
        try:
            file = read_rows(path, PreferencePair)
        except DataError:
            return
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    assert len(file.rows) + len(file.bad) == sum(1 for line in lines if line.strip())


@settings(max_examples=100, deadline=None)
@given(st.integers(min_value=0), st.binary(min_size=1, max_size=4))
def test_parquet_that_is_cut_off_is_refused(at: int, damage: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.parquet")
        write_rows(path, [PAIR] * 3)
        content = path.read_bytes()
        at %= len(content)
        path.write_bytes(content[:at] + damage)
        with pytest.raises(DataError, match="must be a parquet file"):
            read_rows(path, PreferencePair)


def test_bom_crlf_and_blank_lines_are_no_mistake(path: Path) -> None:
    content = b"\xef\xbb\xbf" + LINE + b"\r\n\r\n  \n" + LINE
    path.write_bytes(content)
    file = read_rows(path, PreferencePair)
    assert (file.rows, file.lines, file.bad) == ([PAIR, PAIR], [1, 4], [])
    assert file.fingerprint == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"prompt": [}', "not_json: a row must be JSON, but is broken at column 13 (Expecting value)"),
        ("你".encode("gb18030"), "not_utf8: a line must be UTF-8, but is not at byte 1 (0xc4); it reads as GB18030"),
        (b'{"prompt": "\xff"}', "not_utf8: a line must be UTF-8, but is not at byte 13 (0xff)"),
        (b'{"a\0": 1}', "nul: a line must not hold NUL, but does at byte 4"),
        (LINE.replace(b"bot", b"\\u0000"), "nul: rejected[0]: content must not hold NUL, but does at character 3"),
        (LINE.replace(b"bot", b"\\ud83d"), r"lone_surrogate: text must be whole Unicode, but holds half a char"),
        (LINE.replace(b'"n"', b'"\\uD83D"'), "lone_surrogate"),
        (LINE.replace(b": 1", b": NaN"), "not_finite: a number must be finite, but is NaN"),
        (LINE.replace(b": 1", b": -Infinity"), "not_finite: a number must be finite, but is -Infinity"),
        (LINE.replace(b": 1", b": 1e999"), "not_finite: a number must be finite, but is 1e999"),
        (LINE.replace(b": 1", b": " + b"1" * 5000), "not_json: a row must be JSON that Python can read"),
        (LINE.replace(b": 1", b": " + b"[" * 100_000), "too_deep"),
        (LINE.replace(b"{", b'{"meta": {}, ', 1), "duplicate_key: a name must stand in an object once, but 'meta'"),
        (b'"text"', 'not_an_object: a row must be a JSON object, but is "text"'),
        (b"[1]", "not_an_object: a row must be a JSON object, but is [1]"),
        (b'{"prompt": []}', "missing_column: a PreferencePair must have prompt, chosen, rejected"),
    ],
)
def test_bad_line_is_named_and_the_rest_is_read(path: Path, line: bytes, said: str) -> None:
    assert said in fault_of(path, line)


@pytest.mark.parametrize(
    "template", ['{"prompt": %s}', '{"prompt": [{"role": %s, "content": 1}], "chosen": 1, "rejected": 1}']
)
def test_nested_line_of_any_depth_is_a_bad_row(path: Path, template: str) -> None:
    path.write_text("\n".join(template % ("[" * depth + "]" * depth) for depth in range(900, 1100)))
    assert len(read_rows(path, PreferencePair).bad) == 200


def test_whole_emoji_in_escapes_is_read(path: Path) -> None:
    path.write_bytes(LINE.replace(b"bot", b"\\ud83d\\ude00"))
    assert read_rows(path, PreferencePair).rows[0].rejected[0].content == "A 😀."


@pytest.mark.parametrize("num_bytes", [len(LINE) // 2, LINE.index("你".encode()) + 1])
def test_last_line_without_end_says_that_the_file_is_cut_off(path: Path, num_bytes: int) -> None:
    path.write_bytes(LINE + b"\n" + LINE[:num_bytes])
    [bad] = read_rows(path, PreferencePair).bad
    assert bad.reason == "cut_off"
    assert "the file seems cut off" in bad.detail


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "must hold at least one row, but is empty"),
        (b"\xef\xbb\xbf\n \r\n", "must hold at least one row, but is empty"),
        (LINE.decode().encode("utf-16"), "must be UTF-8, but is UTF-16; convert it: iconv -f UTF-16 -t UTF-8"),
        (b"\n[" + LINE + b"]", "must hold one JSON object a line, but is one JSON array; convert it: jq -c '.[]'"),
        (b"[\n" + LINE + b"\n]\n", "must hold one JSON object a line, but is one JSON array"),
    ],
)
def test_file_of_another_form_is_one_error(path: Path, content: bytes, said: str) -> None:
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_rows(path, PreferencePair)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pair.jsonl", "must be a file, but does not exist; did you mean pairs.jsonl?"),
        ("none/pairs.jsonl", "there is no folder"),
        ("", "is a folder; name a file in it, such as pairs.jsonl"),
        ("pairs.csv", "must end in .jsonl or .parquet, but ends in .csv"),
        ("pairs", "must end in .jsonl or .parquet, but ends in no suffix"),
        ("x" * 300 + ".jsonl", "cannot be looked up"),
    ],
)
def test_wrong_file_name_is_an_error_with_what_to_do(path: Path, name: str, said: str) -> None:
    path.write_bytes(LINE)
    with pytest.raises(ConfigError) as caught:
        read_rows(path.parent / name, PreferencePair)
    assert said in str(caught.value)


def refusal_of(path: Path) -> list[str]:
    """The lines of the error that bad rows raise."""
    with pytest.raises(DataError) as caught:
        checked_rows(path, PreferencePair)
    return str(caught.value).splitlines()


def test_bad_rows_are_listed_up_to_three_of_each_reason(path: Path) -> None:
    path.write_bytes(LINE + b"\n" + b'{"prompt": []}\n' * 1500 + b"{\n" * 3 + b"1\n" * 4)
    lines = refusal_of(path)
    assert lines[0] == f"{path}: 1,507 of 1,508 rows cannot be used (missing_column 1,500, not_an_object 4, not_json 3)"
    listed = [line.split(": ")[0].rpartition(":")[2] for line in lines[1:-2]]
    assert listed == ["2", "3", "4", "1502", "1503", "1504", "1505", "1506", "1507"]
    assert lines[-2] == "  and 1,497 more of missing_column, 1 more of not_an_object"
    assert lines[-1] == "correct them, or set on_bad_rows: drop to go on with the other 1"


def test_few_bad_rows_are_all_listed(path: Path) -> None:
    path.write_bytes(LINE + b"\n{\n1\n{\n")
    lines = refusal_of(path)
    assert [line.split(": ")[0] for line in lines[1:-1]] == [f"  {path}:{number}" for number in (2, 3, 4)]


def test_bad_rows_of_many_reasons_are_twenty_lines_with_one_of_each(path: Path) -> None:
    faults = (b"{", b"1", b"{}", b'{"a": NaN}', b'{"a": 1, "a": 1}', b"\xff", b"\0")
    faults += (LINE.replace(b"bot", b"\\ud83d"), LINE.replace(b"}], ", b'}], "y": 1, ', 1))
    path.write_bytes(b"".join(fault + b"\n" for fault in faults for _ in range(4)))
    lines = refusal_of(path)
    assert len(lines) == 20
    for number in range(1, 4 * len(faults), 4):
        assert any(line.startswith(f"  {path}:{number}: ") for line in lines)


def test_one_file_of_pairs_serves_demonstrations(path: Path) -> None:
    write_rows(path, [PAIR])
    assert read_rows(path, Demonstration).rows == [Demonstration(PAIR.prompt, PAIR.chosen, PAIR.meta)]


def test_drop_goes_on_with_the_good_rows_and_keeps_the_bad_ones(path: Path) -> None:
    path.write_bytes(b"{}\n" + LINE)
    file = checked_rows(path, PreferencePair, on_bad_rows="drop")
    assert (file.rows, file.lines, [bad.reason for bad in file.bad]) == ([PAIR], [2], ["missing_column"])


def test_drop_fails_when_no_row_is_good(path: Path) -> None:
    path.write_bytes(b"{}\n")
    with pytest.raises(DataError, match="no row is left"):
        checked_rows(path, PreferencePair, on_bad_rows="drop")


def write_table(path: Path, meta: pyarrow.Array, **columns: pyarrow.Array) -> Path:
    """A parquet file with two prompts, as another program may write it."""
    table = {"prompt": pyarrow.array(["Hi", "Ho"]), **columns, "meta": meta}
    pyarrow.parquet.write_table(pyarrow.table(table), path)
    return path


def test_meta_of_parquet_may_be_a_struct(tmp_path: Path) -> None:
    path = write_table(tmp_path / "rows.parquet", pyarrow.array([{"source": "ch. 1"}, None]))
    assert [prompt.meta for prompt in read_rows(path, Prompt).rows] == [{"source": "ch. 1"}, {}]


def test_parquet_meta_that_json_cannot_hold_is_a_bad_row(tmp_path: Path) -> None:
    path = write_table(tmp_path / "rows.parquet", pyarrow.array([{"source": b"1"}, None]))
    [bad] = read_rows(path, Prompt).bad
    assert (bad.where, bad.reason) == (f"{path}:1", "wrong_type")
    path = write_table(path, pyarrow.array(["{}", '{"a": NaN}']))
    [bad] = read_rows(path, Prompt).bad
    assert (bad.where, bad.reason) == (f"{path}:2", "not_finite")


def test_parquet_text_that_is_not_utf8_is_a_bad_row(tmp_path: Path) -> None:
    text = pyarrow.array([b"Hi", b"\xff"]).view(pyarrow.string())
    path = write_table(tmp_path / "rows.parquet", pyarrow.array(["{}", "{}"]), prompt=text)
    file = read_rows(path, Prompt)
    assert (file.lines, [bad.where for bad in file.bad]) == ([1], [f"{path}:2"])


def test_written_jsonl_is_utf8_with_one_object_a_line(path: Path) -> None:
    write_rows(path, [PAIR, PAIR])
    assert path.read_bytes() == LINE + b"\n" + LINE + b"\n"


def test_written_file_replaces_the_old_one_and_leaves_nothing_beside_it(path: Path) -> None:
    path.write_bytes(b"old")
    link = path.with_name("link.jsonl")
    link.symlink_to(path)
    write_rows(link, [PAIR])
    assert link.is_symlink()
    assert path.read_bytes() == LINE + b"\n"
    assert sorted(one.name for one in path.parent.iterdir()) == ["link.jsonl", "pairs.jsonl"]


def test_missing_folders_are_made(path: Path) -> None:
    write_rows(path.parent / "a" / "b.jsonl", [PAIR])
    assert read_rows(path.parent / "a" / "b.jsonl", PreferencePair).rows == [PAIR]


def endless() -> Iterator[Row]:
    while True:
        yield PAIR


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_disk_that_refuses_leaves_the_old_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    path.write_bytes(b"old")
    with files_end_at(1 << 13), pytest.raises(StorageError, match="cannot be written: File too large"):
        write_rows(path, endless())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_folder_in_the_way_of_a_file_is_refused(path: Path) -> None:
    path.mkdir()
    with pytest.raises(ConfigError, match="is a folder"):
        write_rows(path, [PAIR])
    with pytest.raises(StorageError, match="cannot be written"):
        write_rows(path / ("x" * 300 + ".jsonl"), [PAIR])
    (path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be written"):
        write_rows(path / "file" / "rows.jsonl", [PAIR])


@pytest.mark.parametrize("meta", [{"a": float("nan")}, {"a": b"bytes"}, {"a": "\ud83d"}])
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_meta_that_json_cannot_hold_is_refused(tmp_path: Path, meta: dict[str, Any], suffix: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    with pytest.raises(DataError, match="row 2 must hold what JSON can"):
        write_rows(path, [Dropped("cut_off"), Dropped("cut_off", meta=meta)])
    assert list(tmp_path.iterdir()) == []


def test_rows_of_two_kinds_are_refused(path: Path) -> None:
    with pytest.raises(DataError, match="row 1 is a PreferencePair and row 2 is a Dropped"):
        write_rows(path, [PAIR, Dropped("cut_off")])


def test_no_rows_make_an_empty_jsonl_but_no_parquet(path: Path) -> None:
    write_rows(path, [])
    assert path.read_bytes() == b""
    with pytest.raises(DataError, match="must have a row"):
        write_rows(path.with_suffix(".parquet"), [])


def test_prompts_are_read_from_text_and_messages(path: Path) -> None:
    path.write_text('{"prompt": "Hi", "meta": {"topic": "sea"}}\n{"prompt": [{"role": "user", "content": "Ho"}]}\n')
    assert read_prompts(path) == [Prompt((Message("user", "Hi"),), {"topic": "sea"}), Prompt((Message("user", "Ho"),))]


def test_prompts_are_read_from_the_lines_of_a_text_file(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeff你好\r\n\n\u3000\n Who are you? \n".encode())
    assert [prompt.messages[0].content for prompt in read_prompts(path)] == ["你好", "Who are you?"]


def test_prompt_that_stands_twice_is_named_with_both_lines(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("Hi\nHo\nHi\nHi \n")
    with pytest.raises(DataError) as caught:
        read_prompts(path)
    assert f"{path}:3: a prompt must stand in the file once, but this one stands at line 1 too" in str(caught.value)
    assert "(duplicate_prompt 2)" in str(caught.value)
    assert [prompt.messages[0].content for prompt in read_prompts(path, on_bad_rows="drop")] == ["Hi", "Ho"]

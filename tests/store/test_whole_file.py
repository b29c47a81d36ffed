"""Whole file: old or new, never half, and nothing beside it; `tests/data/files` has what holds for files of rows."""

from __future__ import annotations

import pytest

from align.errors import StorageError
from align.store.records import write_json, write_text, write_yaml
from align.store.whole_file import whole_file, write_whole
from tests.store.limits import files_end_at

MANY = b"0123456789" * 1000


def test_a_written_file_replaces_the_old_one_and_leaves_nothing_beside_it(tmp_path):
    for data in (b"old", b"new"):
        write_whole(tmp_path / "file", data)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"new"}


@pytest.mark.parametrize("write", [write_text, write_json, write_yaml], ids=lambda write: write.__name__)
def test_a_record_that_is_a_link_stays_one(tmp_path, write):
    (tmp_path / "link").symlink_to(tmp_path / "there")
    write(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink() and "text" in (tmp_path / "there").read_text()


@pytest.mark.parametrize("name", ["a" * 255, "对" * 85])
def test_the_longest_name_that_a_file_can_have_is_written(tmp_path, name):
    write_whole(tmp_path / name, b"data")
    assert (tmp_path / name).read_bytes() == b"data"


def test_what_the_disk_refuses_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with files_end_at(100):
        with pytest.raises(OSError, match="File too large"):
            write_whole(path, MANY)
        with pytest.raises(StorageError, match="cannot be written: File too large"), whole_file(path) as stream:
            stream.write(MANY)
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"file": b"old"}


def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyError), whole_file(path) as stream:
        stream.write(b"half")
        raise KeyError
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"file": b"old"}


def test_only_a_stream_makes_missing_folders(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "a" / "file", b"")
    with whole_file(tmp_path / "a" / "file") as stream:
        stream.write(b"data")
    assert (tmp_path / "a" / "file").read_bytes() == b"data"

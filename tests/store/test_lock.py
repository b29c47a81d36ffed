"""Lock: one holder, named, in this process too; gone with its process, and not before."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from align.errors import RefusedError
from align.store.lock import HeldError, Lock, is_lock
from tests.store.limits import files_end_at

TAKE = (
    "import sys; from pathlib import Path; from align.store.lock import HeldError, Lock\n"
    "try:\n    lock = Lock(Path(sys.argv[1]))\n"
    "except HeldError as error:\n    print(error.holder)\n"
    "else:\n    print('taken', flush=True); sys.stdin.read()"
)


@contextmanager
def running(code: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that ends when its standard input does, at the end of the block."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, str(path)], **pipes, text=True) as process:
        yield process


@contextmanager
def other_process(path: Path) -> Iterator[tuple[int, str]]:
    """Another process that takes the lock until the block ends: its number, and what it says."""
    with running(TAKE, path) as process:
        yield process.pid, process.stdout.readline().strip()


def test_another_process_is_refused_and_told_who_it_is(tmp_path):
    lock = Lock(tmp_path / "lock")
    me = f"process {os.getpid()} on {socket.gethostname()}"
    with other_process(tmp_path / "lock") as (_, said):
        assert said == me
    lock.release()
    with other_process(tmp_path / "lock") as (pid, said):
        assert said == "taken"
        with pytest.raises(RefusedError, match=f"process {pid} on"):
            Lock(tmp_path / "lock")
    assert Lock(tmp_path / "lock").is_held


def test_a_second_holder_in_the_same_process_is_refused_and_the_first_keeps_it(tmp_path):
    lock = Lock(tmp_path / "lock")
    (tmp_path / "link").symlink_to(tmp_path / "lock")
    for name in ("lock", "link"):
        with pytest.raises(HeldError, match="this process"):
            Lock(tmp_path / name)
    assert is_lock(tmp_path / "lock")
    with other_process(tmp_path / "lock") as (_, said):
        assert said != "taken"
    assert lock.is_held


def test_a_lock_that_is_given_back_or_forgotten_can_be_taken_again(tmp_path):
    lock = Lock(tmp_path / "lock")
    lock.release()
    lock.release()
    assert not lock.is_held
    with pytest.raises(KeyError), Lock(tmp_path / "lock").released_on_error():
        raise KeyError
    Lock(tmp_path / "lock")
    assert Lock(tmp_path / "lock").is_held


def test_a_killed_process_frees_it_although_its_child_lives(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from align.store.lock import Lock\n"
        "lock = Lock(Path(sys.argv[1]))\n"
        "child = os.fork()\n"
        "if child:\n    print(child, flush=True)\n"
        "sys.stdin.read()"
    )
    with running(code, tmp_path / "lock") as process:
        child = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        process.wait()
        os.kill(child, 0)  # it is still there
        assert Lock(tmp_path / "lock").is_held


def test_a_child_that_gives_it_back_and_ends_leaves_it_with_its_parent(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from align.store.lock import Lock\n"
        "lock = Lock(Path(sys.argv[1]))\n"
        "child = os.fork()\n"
        "if not child:\n    lock.release(); os._exit(0)\n"
        "os.waitpid(child, 0); print('alone', flush=True); sys.stdin.read()"
    )
    with running(code, tmp_path / "lock") as process:
        assert process.stdout.readline() == "alone\n"
        with pytest.raises(HeldError, match=f"process {process.pid} on"):
            Lock(tmp_path / "lock")


def test_a_disk_without_room_for_the_name_gives_the_lock_back(tmp_path):
    with files_end_at(0), pytest.raises(OSError, match="File too large"):
        Lock(tmp_path / "lock")
    assert Lock(tmp_path / "lock").is_held


@pytest.mark.parametrize(("text", "is_one"), [("", True), ("process 4711 on desk\n", True), ("4711", False)])
def test_the_file_of_a_lock_is_known_by_what_it_holds(tmp_path, text, is_one):
    (tmp_path / "lock").write_text(text)
    assert is_lock(tmp_path / "lock") == is_one

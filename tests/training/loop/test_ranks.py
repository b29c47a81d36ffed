"""Ranks: what processes tell each other before and while they train."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from align.errors import RankLostError
from align.training.loop.ranks import Ranks
from tests.recipes.launching import environment

TWO = """
import sys
from datetime import timedelta
from align.errors import AlignError, DataError
from align.training.loop.ranks import Ranks, leave
few = timedelta(seconds=3)
try:
    ranks = Ranks.join(few)
    rank = ranks.rank
    {body}
except AlignError as error:
    print(type(error).__name__, error.exit_code, error.is_shared, error)
    sys.stdout.flush()
"""


def start(body, rank, port):
    launched = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", TWO.format(body=body)],
        env={**environment(), **launched, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outputs(body, port):
    processes = [start(body, rank, port) for rank in (0, 1)]
    return [process.communicate(timeout=100)[0] for process in processes]


def test_a_rank_that_never_comes_is_named_in_seconds(free_port):
    started = time.monotonic()
    output = start("pass", 0, free_port).communicate(timeout=60)[0]
    assert f"rank 1 of 2 did not come to 127.0.0.1:{free_port} within 3 s" in output
    assert "RefusedError 8" in output and time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('ranks.agree(lambda: {"versions": {"torch": f"2.{rank}"}})', "versions.torch: 2.0 → 2.1"),
        ("ranks.agree(lambda: {}[rank] if rank == 1 else {})", "KeyError(1)"),
        ("rank == 0 and ranks.agree(dict, few); import time; rank == 1 and time.sleep(8)", "rank 1"),
    ],
    ids=["another version", "a bug of one rank", "a rank that is stuck"],
)
def test_ranks_that_do_not_agree_all_end_with_8_and_a_name(free_port, body, expected):
    first, second = outputs(body, free_port)
    assert "RefusedError 8" in first and "rank 1" in first and expected in first
    assert "RefusedError 8 True" in second or expected in ("KeyError(1)", "rank 1")


def test_what_fails_on_all_ranks_alike_keeps_its_own_exit_code_and_is_said_once(free_port):
    body = 'ranks.agree(lambda: (_ for _ in ()).throw(DataError("rows.jsonl:3: bad")))'
    assert [line.splitlines()[-1] for line in outputs(body, free_port)] == ["DataError 3 True rows.jsonl:3: bad"] * 2


def test_a_rank_that_ends_leaves_word_for_those_that_wait(free_port):
    body = "rank == 1 and (ranks.leave_word(DataError('no rows')), leave(True), sys.exit()); ranks.gather(None)"
    first, _ = outputs(body, free_port)
    assert "RankLostError 3 True another process ended this run: rank 1 on" in first and "no rows" in first


def test_alone_everything_is_trivial():
    ranks = Ranks()
    assert ranks.agree(lambda: {"a": 1}) == {"a": 1} and ranks.gather(3) == [3] and ranks.maximum(1, 2) == [1, 2]
    assert "is gone (Read error" in str(ranks.lost(RuntimeError("[/x/pair.cc:5] Read error: reset. This is typical")))
    assert RankLostError.exit_code == 69

"""Processes: what goes wrong in one of two ends both, says so once, and loses nothing that was saved."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from align.store.records import read_json
from align.training.loop.checkpoints import Checkpoints
from tests.recipes.launching import BIN, environment, launch

FAULTY = "tests.recipes.faulty"
SAVING = [
    "trainer.per_device_train_batch_size=2",
    "trainer.max_steps=6",
    "trainer.save_strategy=steps",
    "trainer.save_steps=2",
]


def ended(words, tmp_path, port, launcher, fault, *more):
    """How two processes ended of which rank 1 has a fault in step 5."""
    run = launch(launcher, FAULTY, ["dpo", fault, "5", "1", *words, *SAVING, *more], port)
    return run.stdout, read_json(tmp_path / "run" / "exit.json")


def assert_goes_on(words, tmp_path, port, launcher, *more):
    assert Checkpoints(tmp_path / "run" / "checkpoints").newest().step == 4
    again = launch(launcher, "dpo", [*words, *SAVING, *more], port)
    assert "checkpoint-4" in again.stdout.split("resuming from")[1], again.stdout
    assert read_json(tmp_path / "run" / "exit.json")["code"] == 0 and "step 5/6" in again.stdout


@pytest.mark.parametrize("launcher", ["torchrun", pytest.param("deepspeed", marks=pytest.mark.slow)])
def test_a_rank_that_is_killed_ends_the_run_and_the_same_command_goes_on(words, tmp_path, free_port, launcher):
    output, ending = ended(words, tmp_path, free_port, launcher, "die")
    assert ending["code"] == 69 and "rank 0 on" in ending["message"], output
    assert output.count("another process of this run is gone") == 1
    assert_goes_on(words, tmp_path, free_port, launcher)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "deepspeed"])
def test_nan_on_one_rank_ends_both_in_the_same_step(words, tmp_path, pairs_file, free_port, launcher):
    more = "trainer.gradient_accumulation_steps=2"
    output, ending = ended(words, tmp_path, free_port, launcher, "loss", more)
    assert ending["code"] == 6 and output.count("step 5: the loss is NaN or infinite") == 1, output
    bad = read_json(tmp_path / "run" / "bad_step.json")
    assert len(set(bad["rows"])) == 8 and len(bad["rows_with_bad_loss"]) == 4
    assert bad["rows"][4:] == bad["rows_with_bad_loss"] and set(bad["rows"]) <= {f"{pairs_file}:{n}" for n in range(17)}
    assert not (tmp_path / "run" / "model").exists() and "destroy_process_group" not in output
    assert_goes_on(words, tmp_path, free_port, launcher, more)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_nan_under_zero_ends_both(words, tmp_path, free_port, stage):
    output, ending = ended(words, tmp_path, free_port, "deepspeed", "loss", f"zero.stage={stage}")
    assert ending["code"] == 6 and "step 5: the loss is NaN" in ending["message"], output


@pytest.mark.slow
def test_memory_that_runs_out_on_one_rank_is_in_the_record_of_the_first(words, tmp_path, free_port):
    output, ending = ended(words, tmp_path, free_port, "torchrun", "memory")
    assert ending["code"] == 8 and "another process ended this run: rank 1 on" in ending["message"]
    assert output.count("What takes less") == 1


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["version", "words", "another file", "broken file"])
def test_ranks_that_differ_are_refused_in_seconds_and_named(words, tmp_path, pairs_file, free_port, fault):
    there = tmp_path / "there"
    there.mkdir()
    lines = Path(pairs_file).read_text().splitlines(keepends=True)
    (there / "pairs.jsonl").write_text("".join(lines[:-1]) if fault == "another file" else '{"prompt": 1}\n')
    package = there / "trl-9.9.9.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: trl\nVersion: 9.9.9\n")
    kind, difference, expected = {
        "version": ("version", str(there), "versions.trl: "),
        "words": ("words", "trainer.learning_rate=0.5", "settings.trainer.learning_rate: 0.001 → 0.5"),
        "another file": ("folder", str(there), "data.train"),
        "broken file": ("folder", str(there), "pairs.jsonl:1: "),
    }[fault]
    data = ["train_data=pairs.jsonl"] if kind == "folder" else []  # which lies elsewhere for rank 1
    run = launch("torchrun", FAULTY, ["dpo", kind, "5", "1", difference, *words, *SAVING, *data], free_port, tmp_path)
    ending = read_json(tmp_path / "run" / "exit.json")
    assert ending["code"] == 8 and "rank 1 on" in ending["message"] and expected in ending["message"], run.stdout
    assert run.stdout.count(expected) == 1


@pytest.mark.slow
def test_two_launchers_that_know_only_their_own_process_both_end(words, tmp_path, free_port):
    def node(number):
        start = ["torchrun", "--nnodes", "2", "--node_rank", str(number), "--nproc_per_node", "1"]
        where = ["--master_addr", "127.0.0.1", "--master_port", str(free_port), "-m", FAULTY]
        command = [str(BIN / start[0]), *start[1:], *where, "dpo", "die", "5", "1", *words, *SAVING]
        with (tmp_path / f"node{number}.txt").open("w") as output:
            return subprocess.Popen(command, env=environment(), stdout=output, stderr=subprocess.STDOUT)

    nodes = [node(0), node(1)]
    nodes[1].wait(timeout=120)
    lost = time.monotonic()
    nodes[0].wait(timeout=60)
    assert time.monotonic() - lost < 30
    assert read_json(tmp_path / "run" / "exit.json")["code"] == 69
    assert_goes_on(words, tmp_path, free_port, "torchrun")

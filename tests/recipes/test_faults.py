"""Faults of the machine: a disk that fills up and memory that runs out end a run with a message and lose nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from align.errors import RefusedError
from align.recipes.dpo import DPORecipe
from align.recipes.sft import SFTRecipe
from align.store.records import read_json
from align.training.loop.checkpoints import Checkpoints
from align.training.loop.disk import bytes_of_checkpoint
from tests.recipes.faulty import faulty
from tests.recipes.test_dpo import LORA, KeptRecipe

SAVING = ["trainer.save_strategy=steps", "trainer.save_steps=2"]


def _has_namespaces() -> bool:
    return (
        subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode == 0
    )


on_a_small_disk = pytest.mark.skipif(not _has_namespaces(), reason="needs user namespaces, to mount a small disk")


def run_on_small_disk(moment, bytes_left, words, folder, *more):
    """What `small_disk` found, and the text on the terminal."""
    folder.mkdir()
    command = ["unshare", "-rm", sys.executable, "-m", "tests.recipes.small_disk", moment, str(bytes_left), str(folder)]
    done = subprocess.run([*command, *words, f"output_dir={folder}/run", *more], capture_output=True, text=True)
    output = done.stdout + done.stderr
    assert "FOUND" in output and "Traceback" not in output, output
    return json.loads(done.stdout.split("FOUND ")[1]), output


@on_a_small_disk
def test_a_checkpoint_that_will_not_fit_is_not_begun_and_the_missing_bytes_are_named(words, tmp_path):
    found, output = run_on_small_disk("after a checkpoint", 10 * 2**20, words, tmp_path / "disk", *SAVING)
    assert found["code"] == found["exit"]["code"] == 74
    needed, free, missing = (
        int(number.replace(",", ""))
        for number in re.search(r"needs ([\d,]+) bytes, ([\d,]+) are free, ([\d,]+) are missing", output).groups()
    )
    assert missing == needed - free and free == pytest.approx(found["free"], abs=2**16)
    assert found["folders"] == ["checkpoints", "checkpoints/checkpoint-2"]
    assert found["again"] == 0 and "resuming from" in output and found["result"]["steps"] == 4


@on_a_small_disk
@pytest.mark.parametrize("bytes_left", [100_000, 600_000], ids=["in the weights", "in the optimizer"])
def test_a_disk_that_fills_up_while_saving_leaves_the_checkpoint_before(words, tmp_path, bytes_left):
    found, output = run_on_small_disk("while saving", bytes_left, words, tmp_path / "disk", *SAVING)
    assert found["code"] == found["exit"]["code"] == 74
    assert "are missing; the older checkpoints are whole" in found["exit"]["message"]
    assert found["folders"] == ["checkpoints", "checkpoints/checkpoint-2"] and found["drafts"] == []
    assert found["again"] == 0 and "checkpoint-2\n" in output.split("resuming from")[1]


@on_a_small_disk
def test_a_disk_that_fills_up_while_the_model_is_saved_leaves_the_last_checkpoint(words, tmp_path):
    found, output = run_on_small_disk("while saving the model", 100_000, words, tmp_path / "disk", *SAVING)
    assert found["code"] == found["exit"]["code"] == 74
    assert "model" not in found["folders"] and found["drafts"] == []
    assert found["again"] == 0 and "all 4 steps were done already" in output


@on_a_small_disk
@pytest.mark.parametrize("moment", ["before the start", "while logging"])
def test_a_disk_without_room_for_one_line_ends_with_74_and_whole_lines(words, tmp_path, moment):
    found, output = run_on_small_disk(moment, 0, words, tmp_path / "disk")
    assert found["code"] == 74 and "bytes were to be written, 0 are free" in output
    assert all(json.loads(line)["attempt"] == 1 for line in found["metrics"].splitlines())
    assert found["drafts"] == []
    assert found["again"] == 0 and found["result"]["steps"] == 4


@pytest.mark.parametrize("more", [[], ["lora={r: 64, target_modules: all-linear}"]], ids=["full", "lora"])
def test_the_estimate_of_a_checkpoint_is_near_its_size(words, tmp_path, more):
    recipe = KeptRecipe.from_file(None, *words, *SAVING, *more)
    recipe.run()
    newest = Checkpoints(tmp_path / "run" / "checkpoints").newest()
    tokenizer = (newest.path / "tokenizer.json").stat().st_size  # a fixed amount, for which there is a margin
    size = sum(file.stat().st_size for file in newest.path.rglob("*") if file.is_file()) - tokenizer
    assert 0.9 * size < bytes_of_checkpoint(recipe.trainer) < 2 * size


@pytest.mark.parametrize(
    ("recipe_class", "more", "advised", "not_advised"),
    [
        (
            DPORecipe,
            [],
            ["per_device_train_batch_size=2 (now 4)", "gradient_accumulation_steps=2 (now 1)", "lora=", "zero.stage=2"],
            ["zero.offload"],
        ),
        (SFTRecipe, [LORA, "compute=bfloat16"], ["gradient_checkpointing=true (now false)"], ["lora", "bfloat16"]),
        (
            DPORecipe,
            ["trainer.per_device_train_batch_size=1", "trainer.max_length=256", "trainer.gradient_checkpointing=true"],
            ["max_length below 256"],
            ["per_device_train_batch_size", "gradient_checkpointing"],
        ),
    ],
    ids=["full", "lora", "one row"],
)
def test_out_of_memory_names_the_settings_of_this_run(words, tmp_path, recipe_class, more, advised, not_advised):
    with pytest.raises(RefusedError, match=r"out of memory: .*can't allocate memory") as caught:
        faulty(recipe_class, "memory", 3).from_file(None, *words, *SAVING, *more).run()
    assert all(word in str(caught.value) for word in advised), caught.value
    assert not any(word in str(caught.value) for word in not_advised), caught.value
    assert read_json(tmp_path / "run" / "exit.json")["code"] == 8
    assert Checkpoints(tmp_path / "run" / "checkpoints").newest().step == 2

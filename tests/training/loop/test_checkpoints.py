"""Checkpoints: whole or absent, shown on plain files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from align.errors import ConfigError, StorageError
from align.store.records import read_json, write_json
from align.training.loop.checkpoints import MANIFEST, Checkpoints
from align.training.loop.ranks import Ranks

FACTS = {"identity": {"recipe": "DPORecipe"}, "versions": {}, "layout": {"processes": 1}}
FILES = {
    "model.safetensors": b"weights" * 100,
    "optimizer.pt": b"moments" * 200,
    "rng_state.pth": b"random state",
    "ref/adapter_model.safetensors": b"a frozen adapter",
    "trainer_state.json": b'{"global_step": 2}',
    "progress-0.json": b'{"loss_sum": 1.5}',
}


def missing(file: Path) -> None:
    file.unlink()


def empty(file: Path) -> None:
    file.write_bytes(b"")


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-2])


def one_bit_flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


FAULTS = [missing, empty, truncated, one_bit_flipped]


def save(folder: Path, step: int) -> Path:
    """Write the files of a checkpoint, without a manifest."""
    path = folder / f"checkpoint-{step}"
    for name, content in FILES.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content + str(step).encode())
    return path


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    """Valid ones of steps 2 and 4."""
    made = Checkpoints(tmp_path)
    for step in (2, 4):
        save(tmp_path, step)
        made.commit(step, FACTS, Ranks())
    return made


def newest(checkpoints: Checkpoints) -> Any:
    found = checkpoints.newest()
    return found and found.step


def test_the_newest_is_used_with_the_facts_it_was_saved_with(checkpoints):
    found = checkpoints.newest()
    assert (found.step, found.facts, found.path.name) == (4, FACTS, "checkpoint-4")


def test_without_a_checkpoint_there_is_none(tmp_path):
    assert Checkpoints(tmp_path / "not there").newest() is None


def test_a_manifest_names_every_file(checkpoints):
    assert set(read_json(checkpoints.folder / "checkpoint-4" / MANIFEST)["files"]) == set(FILES)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_broken_file_is_found_named_and_fallen_back_from(checkpoints, capsys, name, fault):
    fault(checkpoints.folder / "checkpoint-4" / name)
    assert newest(checkpoints) == 2
    said = capsys.readouterr().out
    assert name in said and f"moved to {checkpoints.folder / 'quarantine' / 'checkpoint-4.1'}" in said
    assert not (checkpoints.folder / "checkpoint-4").exists()


@pytest.mark.parametrize("position", range(0, 1000, 37))
def test_a_bit_flipped_anywhere_in_the_manifest_is_found(checkpoints, position):
    file = checkpoints.folder / "checkpoint-4" / MANIFEST
    content = bytearray(file.read_bytes())
    content[position % len(content)] ^= 1
    file.write_bytes(content)
    assert newest(checkpoints) == 2


def test_a_file_that_was_added_is_refused_by_its_name_and_nothing_is_moved(checkpoints):
    """It might be loaded in place of what was saved; and it is somebody's, so it goes into no quarantine."""
    added = checkpoints.folder / "checkpoint-4" / "pytorch_model.bin"
    added.write_bytes(b"another model")
    with pytest.raises(ConfigError, match=r"checkpoint-4/pytorch_model\.bin: is not in manifest\.json.*move it away"):
        checkpoints.newest()
    added.unlink()
    assert newest(checkpoints) == 4


@pytest.mark.parametrize("name", [".DS_Store", ".ipynb_checkpoints/notes.ipynb"])
def test_a_hidden_file_that_no_library_loads_does_no_harm(checkpoints, name):
    file = checkpoints.folder / "checkpoint-4" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("of a file manager")
    assert newest(checkpoints) == 4


def test_rotation_keeps_what_somebody_put_into_a_checkpoint(checkpoints, capsys):
    (checkpoints.folder / "checkpoint-2" / "model-f16.gguf").write_text("mine")
    checkpoints.rotate(1, None)
    kept = checkpoints.folder / "checkpoint-2.kept"
    assert [path.name for path in kept.iterdir() if path.is_file()] == ["model-f16.gguf"]
    assert f"is removed but for model-f16.gguf, which no run wrote; kept in {kept}" in capsys.readouterr().out
    assert newest(checkpoints) == 4


def test_a_checkpoint_under_another_number_is_found(checkpoints):
    (checkpoints.folder / "checkpoint-4").rename(checkpoints.folder / "checkpoint-8")
    assert newest(checkpoints) == 2


def test_a_save_that_was_cut_off_is_no_checkpoint(checkpoints, capsys):
    path = save(checkpoints.folder, 6)
    (path / f".{MANIFEST}.4711").write_text("{")
    assert newest(checkpoints) == 4
    assert f"has no {MANIFEST}, so its saving was cut off" in capsys.readouterr().out


def test_the_draft_of_a_manifest_beside_it_does_no_harm(checkpoints):
    (checkpoints.folder / "checkpoint-4" / f".{MANIFEST}.4711").write_text("{")
    assert newest(checkpoints) == 4


def test_a_file_where_a_checkpoint_should_be_is_moved_away(checkpoints, capsys):
    (checkpoints.folder / "checkpoint-6").write_text("no folder")
    assert newest(checkpoints) == 4
    assert "checkpoint-6: is not a folder" in capsys.readouterr().out
    assert not (checkpoints.folder / "checkpoint-6").exists()


@pytest.mark.parametrize("is_broken", [False, True])
def test_a_link_in_place_of_a_checkpoint_is_moved_away_and_what_it_points_to_is_kept(checkpoints, tmp_path, is_broken):
    target = tmp_path / "elsewhere"
    if not is_broken:
        (checkpoints.folder / "checkpoint-4").rename(target)
    (checkpoints.folder / "checkpoint-6").symlink_to(target)
    assert newest(checkpoints) == (4 if is_broken else 2)
    assert target.exists() is not is_broken


def test_names_that_only_look_like_checkpoints_are_left_alone(checkpoints):
    for name in ("checkpoint-", "checkpoint-best", "checkpoint-²"):
        (checkpoints.folder / name).mkdir()
    assert newest(checkpoints) == 4
    checkpoints.rotate(1, None)
    assert (checkpoints.folder / "checkpoint-best").is_dir()


def test_quarantine_keeps_the_two_latest_of_any_kind(checkpoints):
    for step in range(6, 16, 2):
        save(checkpoints.folder, step)
        newest(checkpoints)
    (checkpoints.folder / "checkpoint-16").write_text("no folder")
    (checkpoints.folder / "checkpoint-18").symlink_to(checkpoints.folder)
    newest(checkpoints)
    kept = sorted(path.name for path in (checkpoints.folder / "quarantine").iterdir())
    assert kept == ["checkpoint-16.7", "checkpoint-18.6"]
    assert newest(checkpoints) == 4


def test_when_none_is_valid_there_is_none(checkpoints):
    for step in (2, 4):
        one_bit_flipped(checkpoints.folder / f"checkpoint-{step}" / "optimizer.pt")
    assert checkpoints.newest() is None


@pytest.mark.parametrize(
    ("keep", "best", "kept"),
    [
        (1, None, [6]),
        (2, None, [4, 6]),
        (None, None, [2, 4, 6]),
        (0, None, [2, 4, 6]),
        (-1, None, [2, 4, 6]),
        (1, "x/checkpoint-2", [2, 6]),
    ],
)
def test_rotation_keeps_the_newest_and_the_best(checkpoints, keep, best, kept):
    save(checkpoints.folder, 6)
    checkpoints.commit(6, FACTS, Ranks())
    checkpoints.rotate(keep, best)
    assert sorted(int(path.name[11:]) for path in checkpoints.folder.glob("checkpoint-*")) == kept


@pytest.mark.parametrize("content", ["", "[1]", '{"step": 2}', '{"files": 3}'])
def test_rotation_removes_an_older_checkpoint_whose_manifest_is_broken(checkpoints, content):
    """Nobody looked at it: the search ends at the newest valid one."""
    (checkpoints.folder / "checkpoint-2" / MANIFEST).write_text(content)
    checkpoints.rotate(1, None)
    assert [path.name for path in checkpoints.folder.glob("checkpoint-*")] == ["checkpoint-4"]


def test_a_rotation_that_was_cut_off_is_made_up_for(checkpoints):
    (checkpoints.folder / "checkpoint-2" / MANIFEST).unlink()
    (checkpoints.folder / "checkpoint-2" / "optimizer.pt").unlink()
    assert newest(checkpoints) == 4
    checkpoints.rotate(1, None)
    assert [path.name for path in checkpoints.folder.glob("checkpoint-*")] == ["checkpoint-4"]


def test_a_disk_that_is_too_full_is_refused_with_the_number_of_missing_bytes(checkpoints):
    free = shutil.disk_usage(checkpoints.folder).free
    with pytest.raises(StorageError, match=r"a checkpoint needs [\d,]+ bytes, [\d,]+ are free, [\d,]+ are missing"):
        checkpoints.check_space(free * 2)
    checkpoints.check_space(1)


def test_what_a_failed_save_left_is_removed(checkpoints):
    save(checkpoints.folder, 6)
    checkpoints.remove_unfinished()
    assert sorted(path.name for path in checkpoints.folder.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]


def test_a_manifest_rewritten_to_match_another_content_is_taken_as_it_is(checkpoints):
    """The digest finds damage, not an attacker: what keeps a foreign pickle from running is how files are loaded."""
    manifest = read_json(checkpoints.folder / "checkpoint-4" / MANIFEST)
    write_json(checkpoints.folder / "checkpoint-4" / MANIFEST, manifest)
    assert newest(checkpoints) == 4

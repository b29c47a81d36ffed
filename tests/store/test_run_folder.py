"""Run folder: what it records, and whom it lets in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from align.errors import ConfigError, RefusedError
from align.store.records import read_json
from align.store.run_folder import RunFolder, git_state, versions


def open_run(folder, **identity):
    return RunFolder.open(str(folder), {"model": "m"}, {"settings": identity})


def test_a_run_records_settings_versions_command_and_identity(tmp_path):
    run = open_run(tmp_path / "run", beta=1)
    record = read_json(run.path / "run.json")
    assert record["versions"]["trl"].startswith("1.")
    assert record["identity_of"] == {"settings": {"beta": 1}}
    assert (run.path / "config.yaml").read_text() == "model: m\n"


def test_metrics_carry_their_attempt_and_survive_a_second_start(tmp_path):
    open_run(tmp_path).log({"step": 1, "loss": 0.5})
    open_run(tmp_path).log({"step": 1, "loss": 0.6})
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["attempt"], row["loss"]) for row in rows] == [(1, 0.5), (2, 0.6)]


def test_a_finished_run_is_not_run_again(tmp_path):
    open_run(tmp_path, beta=1).finish(0, "done")
    assert open_run(tmp_path, beta=1) is None


def test_a_folder_with_another_finished_run_is_refused(tmp_path):
    open_run(tmp_path, beta=1).finish(0, "done")
    with pytest.raises(ConfigError, match=r"another run finished here; what is different now:\n  settings.beta: 1 → 2"):
        open_run(tmp_path, beta=2)


@pytest.mark.parametrize("is_other_recipe", [False, True])
def test_anyway_takes_no_finished_run_that_left_nothing_to_go_on_from(tmp_path, is_other_recipe):
    """It would train from the beginning and put its model in the place of the finished one."""
    first = RunFolder.open(str(tmp_path), {}, {"recipe": "DPORecipe", "beta": 1})
    if is_other_recipe:
        (tmp_path / "checkpoints" / "checkpoint-2").mkdir(parents=True)
        (tmp_path / "checkpoints" / "checkpoint-2" / "manifest.json").write_text("{}")
    first.finish(0, "done")
    before = everything(tmp_path)
    identity = {"recipe": "SFTRecipe" if is_other_recipe else "DPORecipe", "beta": 2}
    with pytest.raises(ConfigError, match=r"left no checkpoint that resume=anyway could go on from") as refused:
        RunFolder.open(str(tmp_path), {}, identity, anyway=True)
    assert "all the same with resume=anyway" not in str(refused.value)
    (tmp_path / "lock").write_bytes(before[Path("lock")])
    assert everything(tmp_path) == before


def test_a_failed_run_may_be_started_again_with_other_settings(tmp_path):
    open_run(tmp_path, beta=1).finish(2, "wrong")
    assert open_run(tmp_path, beta=2).attempt == 2


def test_a_start_that_is_refused_changes_nothing(tmp_path):
    open_run(tmp_path, beta=1).finish(75, "pre-empted")
    (tmp_path / "checkpoints" / "checkpoint-2").mkdir(parents=True)
    (tmp_path / "checkpoints" / "checkpoint-2" / "manifest.json").write_text("{}")
    before = {file.name: file.read_bytes() for file in tmp_path.glob("*.*")}
    with pytest.raises(ConfigError, match="another run has checkpoints here"):
        open_run(tmp_path, beta=2)
    assert {file.name: file.read_bytes() for file in tmp_path.glob("*.*")} == before
    assert open_run(tmp_path, beta=1).attempt == 2


def test_half_a_row_that_a_power_cut_left_is_cut(tmp_path):
    open_run(tmp_path).log({"step": 1})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"attempt": 1, "st')
    open_run(tmp_path).log({"step": 2})
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]


def test_versions_name_what_is_not_installed():
    assert set(versions()) >= {"torch", "trl", "transformers", "peft"}


def test_git_state_is_empty_outside_a_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert git_state() == {}


def everything(folder):
    """Each file below a folder with its bytes, and each folder."""
    return {path.relative_to(folder): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def project(folder):
    """Somebody's own project: a model, notes, another trainer's checkpoints, names that a run uses too."""
    for name in ("model/model.safetensors", "checkpoints/checkpoint-100/model.safetensors", ".model/x", "src/a.py"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("mine")
    for name in ("README.md", "config.yaml", "lock", "exit.json", "result.json"):
        (folder / name).write_text('{"mine": 1}')
    (folder / "metrics.jsonl").write_text("last line without its end")
    return folder


def link_in_folder(folder):
    (folder / "model").mkdir()
    (folder / "model" / "link").symlink_to(folder / "nowhere")


FOREIGN = {
    "a project": project,
    "one file": lambda folder: (folder / "notes.txt").write_text("mine"),
    "one hidden file": lambda folder: (folder / ".env").write_text("mine"),
    "a link in a folder": link_in_folder,
    "a lock of something else": lambda folder: (folder / "lock").write_text("4711"),
    "a record of something else": lambda folder: (folder / "run.json").write_text('{"run": "mine", "exit": 0}'),
    "a list as record": lambda folder: (folder / "run.json").write_text("[1, 2]"),
    "a broken record": lambda folder: (folder / "run.json").write_text(""),
}


@pytest.mark.parametrize("anyway", [False, True])
@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
def test_a_folder_that_no_run_has_made_is_refused_and_not_a_byte_in_it_changes(tmp_path, make, anyway):
    make(tmp_path)
    before = everything(tmp_path)
    with pytest.raises(ConfigError, match=r"output_dir|must be the record that align wrote there, but cannot be read"):
        RunFolder.open(str(tmp_path), {"model": "m"}, {}, anyway)
    with pytest.raises(ConfigError):
        RunFolder.record_refusal(str(tmp_path), 2, "refused")
    assert everything(tmp_path) == before


def test_the_refusal_names_what_lies_there(tmp_path):
    with pytest.raises(ConfigError, match=r"holds \.model/, README\.md, checkpoints/, config\.yaml and 6 more and no"):
        open_run(project(tmp_path))


@pytest.mark.parametrize("place", ["afile", "afile/run", "dangling"])
def test_a_place_that_cannot_be_a_folder_is_refused(tmp_path, place):
    (tmp_path / "afile").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "afile" / "nowhere")
    with pytest.raises(ConfigError, match=f"output_dir: {tmp_path / place} must be a folder that a run can write into"):
        open_run(tmp_path / place)
    assert (tmp_path / "afile").read_text() == "mine"


def test_a_link_to_a_folder_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "theirs").mkdir()
    project(tmp_path / "theirs")
    (tmp_path / "run").symlink_to(tmp_path / "theirs")
    before = everything(tmp_path / "theirs")
    with pytest.raises(ConfigError, match="must be new, empty or the folder of a run"):
        open_run(tmp_path / "run")
    assert everything(tmp_path / "theirs") == before


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]"], ids=["empty", "half", "binary", "a list"])
def test_a_broken_record_is_named_and_nothing_changes(tmp_path, content):
    open_run(tmp_path, beta=1).finish(0, "done")
    (tmp_path / "exit.json").write_bytes(content)
    before = everything(tmp_path)
    with pytest.raises(ConfigError, match=r"exit\.json: must be the record that align wrote there, but cannot be read"):
        open_run(tmp_path, beta=1)
    (tmp_path / "lock").write_bytes(before[Path("lock")])
    assert everything(tmp_path) == before


def test_folders_without_a_file_are_no_hindrance(tmp_path):
    """`Recipe.prepare` lets the trainer make its folder of checkpoints."""
    (tmp_path / "checkpoints" / "runs").mkdir(parents=True)
    assert open_run(tmp_path).attempt == 1


@pytest.mark.parametrize("left", [[], ["lock"], ["lock", ".run.json.4711"]], ids=len)
def test_what_a_start_left_that_was_killed_before_its_mark_is_no_hindrance(tmp_path, left):
    for name in left:
        (tmp_path / name).write_text("process 4711 on here\n" if name == "lock" else "")
    assert open_run(tmp_path).attempt == 1
    assert read_json(tmp_path / "run.json")["made_by"] == "align"


def test_a_refusal_before_the_run_marks_its_new_folder_so_that_the_next_start_may_take_it(tmp_path):
    RunFolder.record_refusal(str(tmp_path / "run"), 2, "wrong setting")
    assert read_json(tmp_path / "run" / "exit.json")["message"] == "wrong setting"
    assert open_run(tmp_path / "run").attempt == 1


def test_a_run_of_a_version_without_the_mark_goes_on(tmp_path):
    open_run(tmp_path, beta=1).finish(75, "pre-empted")
    record = read_json(tmp_path / "run.json")
    (tmp_path / "run.json").write_text(json.dumps({key: record[key] for key in record if key != "made_by"}))
    assert open_run(tmp_path, beta=1).attempt == 2
    assert read_json(tmp_path / "run.json")["made_by"] == "align"


def test_a_second_start_beside_the_first_is_refused_as_such(tmp_path):
    code = (
        "import sys; from align.store.run_folder import RunFolder; run = RunFolder.open(sys.argv[1], {}, {});"
        "print('open', flush=True); sys.stdin.read()"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout.readline() == "open\n"
    with pytest.raises(RefusedError, match=f"process {first.pid} on .* is writing into this folder"):
        open_run(tmp_path)
    first.communicate()


def test_a_second_run_in_the_same_process_is_refused_and_the_first_keeps_its_folder(tmp_path):
    run = open_run(tmp_path, beta=1)
    for start in (lambda: open_run(tmp_path, beta=1), lambda: RunFolder.record_refusal(str(tmp_path), 2, "refused")):
        with pytest.raises(RefusedError, match="this process is writing into this folder"):
            start()
    code = "import sys; from align.store.run_folder import RunFolder; RunFolder.open(sys.argv[1], {}, {})"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert "RefusedError" in done.stderr and not (tmp_path / "exit.json").exists()
    run.finish(0, "done")
    assert open_run(tmp_path, beta=1) is None


def test_a_start_that_fails_lets_go_of_the_folder_although_its_error_is_kept(tmp_path):
    (tmp_path / "config.yaml").mkdir(parents=True)
    with pytest.raises(IsADirectoryError) as kept:
        open_run(tmp_path)
    RunFolder.record_refusal(str(tmp_path), 2, "refused")
    assert read_json(tmp_path / "exit.json")["message"] == "refused" and kept.value

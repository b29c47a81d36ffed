"""The command line as a person types it: verbs, exit codes, shipped files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from align.settings.shipped import shipped_file, shipped_files

ROOT = Path(__file__).parent.parent


def align(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "align.cli", *words], capture_output=True, text=True, cwd=cwd, check=False
    )


def test_help_names_the_verbs():
    shown = align("--help").stdout
    assert all(verb in shown for verb in ("build", "train", "compare", "judge", "recipes"))


@pytest.mark.parametrize("module", ["recipes.dpo", "recipes.sft", "data_builders.contrast", "data_builders.student"])
def test_every_entry_point_has_help_with_its_settings(module):
    done = subprocess.run(
        [sys.executable, "-m", f"align.{module}", "--help"], capture_output=True, text=True, check=True
    )
    assert f"usage: python -m align.{module} FILE.yaml" in done.stdout and "output_dir" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "dop", "x.yaml"), "dop is not a recipe; there are sft, dpo, grpo; did you mean dpo?"),
        (("build", "contrasts"), "did you mean contrast?"),
        (("train", "dpo"), "a YAML file must be given"),
        (("train", "dpo", "a.yaml", "b.yaml"), "one YAML file must be given"),
        (("train", "dpo", "nowhere.yaml"), "nowhere.yaml: there is no such file"),
        (("compare", "runs/nowhere"), "must be the folder of a finished run"),
        (("recipes", "show", "nothing"), "is not a shipped file"),
        (("judge", "nowhere.jsonl", "teacher.model=x", "criteria=y"), "nowhere.jsonl: must be a file"),
        (("judge", "nowhere.jsonl", "teacher.model=x"), "criteria must be given: What makes an answer the better one"),
    ],
)
def test_a_wrong_command_ends_with_exit_code_2_and_says_why(words, message):
    done = align(*words)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr


def test_shipped_files_are_listed_with_what_they_do_and_their_command():
    shown = align("recipes", "list").stdout
    for name in shipped_files():
        assert name in shown
    assert "python -m align.recipes.dpo recipes/short_dpo.yaml" in shown


def test_a_shipped_file_is_copied_once_and_never_over_another(tmp_path):
    assert align("recipes", "copy", "short_dpo", "mine.yaml", cwd=tmp_path).returncode == 0
    assert (tmp_path / "mine.yaml").read_text() == shipped_file("short_dpo").read_text()
    done = align("recipes", "copy", "short_dpo", "mine.yaml", cwd=tmp_path)
    assert (done.returncode, "is there already" in done.stderr) == (2, True)


def test_lint_shows_the_tokens_and_which_of_them_carry_loss(tiny_model, tmp_path):
    sides = {side: [{"role": "assistant", "content": text}] for side, text in (("chosen", "so"), ("rejected", "no"))}
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"prompt": [{"role": "user", "content": "why?"}], **sides}))
    done = align("lint", str(tmp_path / "pairs.jsonl"), "--tokens", tiny_model, "--ids")
    assert done.returncode == 0, done.stderr
    assert "of a prompt no token carries loss" in done.stdout and "rejected" in done.stdout

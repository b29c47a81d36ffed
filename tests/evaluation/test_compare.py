"""Compare: the whole road on a two-layer model, from a finished run to files and a verdict."""

from __future__ import annotations

import json
import shutil

import pytest

from align.data.files.rows import write_rows
from align.data.rows.pair import Message, Prompt
from align.errors import ConfigError
from align.evaluation.baseline import Baseline
from align.evaluation.run import _plan, compare
from align.recipes.dpo import DPORecipe
from align.recipes.sft import SFTRecipe
from align.store.records import read_json
from tests.recipes.conftest import pair

TRAINING = [
    "compute=float32",
    "trainer={max_steps: 2, learning_rate: 1e-3, per_device_train_batch_size: 4, gradient_checkpointing: false}",
    "lora={r: 4, target_modules: all-linear}",
]


@pytest.fixture(scope="module")
def trained(tiny_model, tmp_path_factory):
    """A folder with a dataset, an SFT run and a DPO run."""
    root = tmp_path_factory.mktemp("compare")
    data = root / "data"
    data.mkdir()
    write_rows(data / "pairs.jsonl", [pair(number) for number in range(8)])
    write_rows(data / "heldout.jsonl", [Prompt((Message("user", f"held-out question {n}?"),)) for n in range(5)])
    (data / "builder.yaml").write_text('good: {examples: [{user: "How?", assistant: "Well."}]}\n')
    words = [f"model={tiny_model}", f"train_data={data / 'pairs.jsonl'}", *TRAINING]
    SFTRecipe.from_file(None, *words, f"output_dir={root / 'sft'}").run()
    section = (
        f"compare={{dataset: {data}, sft: {root / 'sft'}, samples: 2, max_tokens: 12, batch_size: 4, "
        "check: {use: align.rewards.text.Contains, words: [e]}}"
    )
    DPORecipe.from_file(None, *words, section, f"output_dir={root / 'dpo'}").run()
    return root


def test_four_arms_answer_every_prompt_and_everything_is_written(trained, capsys):
    result = compare(str(trained / "dpo"))
    assert [arm.name for arm in result.arms] == ["base", "base + instruction", "SFT", "DPO"]
    assert all(len(row) == 2 for rows in result.answers.values() for row in rows)
    rows = [json.loads(line) for line in (trained / "dpo/comparison/answers.jsonl").read_text().splitlines()]
    assert len(rows) == 4 * 5 * 2
    written = read_json(trained / "dpo/comparison/comparison.json")
    assert written["verdict"] == result.verdict.word
    assert set(written["rates"]) == set(result.scores)
    shown = capsys.readouterr().out
    assert shown.index("smallest detectable difference") < shown.index("what each arm does")
    assert shown.index("worst answers first") < shown.index("verdict:")
    assert "style strength" in shown


def test_words_override_the_compare_section(trained):
    assert all(len(row) == 1 for row in compare(str(trained / "dpo"), ["samples=1"]).answers["DPO"])


def test_base_and_trained_arm_are_the_same_when_nothing_was_trained(trained, tiny_model, tmp_path):
    """Common random numbers: an arm whose weights are the base's gives the base's answers."""
    from align.evaluation.arms import Arm, answer
    from align.teachers.base import Sampling

    prompts = [Prompt((Message("user", f"q{n}"),)) for n in range(3)]
    found = answer([Arm("a", tiny_model), Arm("b", tiny_model)], prompts, Sampling(max_tokens=8), 2, "float32", 4)
    assert found["a"] == found["b"]


def test_a_run_that_is_not_finished_cannot_be_compared(trained, tmp_path):
    with pytest.raises(ConfigError, match=r"must be the folder of a finished run, but has no exit\.json"):
        compare(str(tmp_path))


def test_the_verdict_stands_with_its_interval_on_the_terminal_and_in_the_file(trained, capsys):
    result = compare(str(trained / "dpo"), ["samples=1"])
    written = read_json(trained / "dpo/comparison/comparison.json")
    shown = " ".join(capsys.readouterr().out.split())
    assert result.verdict.word == written["verdict"] == "not shown to beat base"
    assert f"verdict: not shown to beat base {result.over_base}" in shown
    assert all(reason in shown for reason in written["reasons"])
    assert any(reason.endswith(str(result.over_base)) for reason in written["reasons"])
    assert any(reason.endswith(str(result.over_baseline)) for reason in written["reasons"])
    assert written["baseline"] == {"name": "SFT", "flaws": []}


def test_an_sft_run_on_the_same_rows_is_a_control(trained):
    assert _plan(trained / "dpo", []).baseline == Baseline("SFT", [])


def test_an_sft_run_on_another_file_is_no_control_though_it_learned_as_many_tokens(trained, tiny_model, tmp_path):
    rows = [pair(number) for number in range(8)]
    write_rows(tmp_path / "others.jsonl", rows[::-1])
    words = [f"model={tiny_model}", f"train_data={tmp_path / 'others.jsonl'}", *TRAINING]
    SFTRecipe.from_file(None, *words, f"output_dir={tmp_path / 'sft'}").run()
    learned = [read_json(run / "result.json")["learned_tokens_seen"] for run in (trained / "dpo", tmp_path / "sft")]
    assert learned[0] == learned[1]
    baseline = _plan(trained / "dpo", [f"sft={tmp_path / 'sft'}"]).baseline
    assert baseline.name == "SFT"
    assert len(baseline.flaws) == 1 and "it was trained on " in baseline.flaws[0]


def test_a_dpo_run_as_baseline_is_not_called_sft(trained, capsys):
    shutil.copytree(trained / "dpo", trained / "[b]other")
    try:
        result = compare(str(trained / "dpo"), ["samples=1", f"sft={trained / '[b]other'}"])
    finally:
        shutil.rmtree(trained / "[b]other")
    assert [arm.name for arm in result.arms] == ["base", "base + instruction", "DPO [b]other", "DPO dpo"]
    shown = capsys.readouterr().out
    assert "SFT" not in shown.replace("SFTRecipe", "")
    before, _, after = shown.partition("what each arm does")
    said = "a lead over DPO [b]other would not show that more than imitation helped: its recipe is DPORecipe"
    assert said in " ".join(before.split()), "before anything is generated"
    assert said in " ".join(after.split())
    assert "DPO dpo against DPO [b]other: +0.0 points" in after
    assert "[b]other" in after.partition("worst answers")[0], "a folder's name is no markup"


@pytest.mark.parametrize("columns", ["80", "200"])
def test_reasons_stay_indented_where_they_wrap(trained, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    compare(str(trained / "dpo"), ["samples=1"])
    _, _, after = capsys.readouterr().out.partition("verdict:")
    reasons, _, _ = after.partition("every answer:")
    assert all(line.startswith("  ") and len(line.rstrip()) <= int(columns) for line in reasons.splitlines()[1:])


def test_an_sft_run_is_judged_under_its_own_name(trained):
    section = ["sft=null", f"dataset={trained / 'data'}", "check={use: align.rewards.text.Contains, words: [e]}"]
    plan = _plan(trained / "sft", section)
    assert [arm.name for arm in plan.arms] == ["base", "base + instruction", "SFT"]
    assert plan.baseline is None


def test_a_run_that_is_its_own_baseline_is_refused(trained):
    with pytest.raises(ConfigError, match="is the run itself"):
        _plan(trained / "dpo", [f"sft={trained / 'dpo'}"])

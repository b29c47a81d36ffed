"""Compare: the whole road on a two-layer model, from a finished run to files and a verdict."""

from __future__ import annotations

import json

import pytest

from align.data.files import write_rows
from align.data.pair import Message, Prompt
from align.errors import ConfigError
from align.evaluation.compare import compare
from align.recipes.dpo import DPORecipe
from align.recipes.sft import SFTRecipe
from align.records import read_json
from tests.recipes.conftest import pair


@pytest.fixture(scope="module")
def trained(tiny_model, tmp_path_factory):
    """A folder with a dataset, an SFT run and a DPO run."""
    root = tmp_path_factory.mktemp("compare")
    data = root / "data"
    data.mkdir()
    write_rows(data / "pairs.jsonl", [pair(number) for number in range(8)])
    write_rows(data / "heldout.jsonl", [Prompt((Message("user", f"held-out question {n}?"),)) for n in range(5)])
    (data / "builder.yaml").write_text('good: {examples: [{user: "How?", assistant: "Well."}]}\n')
    words = [
        f"model={tiny_model}",
        f"train_data={data / 'pairs.jsonl'}",
        "compute=float32",
        "trainer={max_steps: 2, learning_rate: 1e-3, per_device_train_batch_size: 4, gradient_checkpointing: false}",
        "lora={r: 4, target_modules: all-linear}",
    ]
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


def test_an_sft_arm_with_other_tokens_proves_nothing(trained, tmp_path):
    result = read_json(trained / "sft/result.json")
    changed = json.dumps({**result, "learned_tokens_seen": result["learned_tokens_seen"] + 1})
    (trained / "sft/result.json").write_text(changed)
    try:
        from align.evaluation.compare import _plan

        assert not _plan(trained / "dpo", []).is_sft_equal
    finally:
        (trained / "sft/result.json").write_text(json.dumps(result))
    assert _plan(trained / "dpo", []).is_sft_equal

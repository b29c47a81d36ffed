"""Settings: every mistake is found at once, named with its line, before anything heavy is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from align.errors import ConfigError
from align.recipes.dpo import DPOSettings
from align.recipes.sft import SFTSettings
from align.settings.base import load_settings

GOOD = "model: m\ntrain_data: d.jsonl\noutput_dir: o\n"


def settings(tmp_path: Path, text: str, *words: str) -> DPOSettings:
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    return load_settings(DPOSettings, str(path), words)


def message(tmp_path: Path, text: str, *words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        settings(tmp_path, text, *words)
    return str(caught.value).replace(f"{tmp_path}/", "")


def test_yaml_1_2_reads_scientific_notation_as_a_number(tmp_path):
    assert settings(tmp_path, GOOD + "trainer: {learning_rate: 5e-6}").trainer["learning_rate"] == 5e-6


def test_words_override_the_file_and_may_open_a_section(tmp_path):
    found = settings(tmp_path, GOOD + "trainer: {beta: 0.1}", "trainer.beta=0.5", "lora.r=4", "output_dir=p")
    assert (found.trainer, found.lora, found.output_dir) == ({"beta": 0.5}, {"r": 4}, "p")


def test_all_mistakes_stand_in_one_message_with_their_lines(tmp_path):
    text = "model: 3\noutput_dirr: o\ntrainer:\n  learing_rate: 1e-6\n  beta: much\nlora: {r: '8'}\n"
    found = message(tmp_path, text, "trainer.max_steps=a", "nonsense").splitlines()
    assert found == [
        "x.yaml:1: model must be a text, is 3",
        "x.yaml:2: output_dirr is not a setting; did you mean output_dir?",
        "x.yaml:4: trainer.learing_rate is not a DPOConfig setting; did you mean learning_rate?",
        "x.yaml:5: trainer.beta must be of type float (DPOConfig), is 'much'",
        "x.yaml:6: lora.r must be of type int (LoraConfig), is '8' (a text, because it is in quotes)",
        "command line: nonsense: must be key=value, for example trainer.max_steps=50",
        "x.yaml: train_data must be given: Rows to train on, `.jsonl` or `.parquet`.",
        "x.yaml: output_dir must be given: Folder of the run.",
        "command line: trainer.max_steps=a: trainer.max_steps must be of type int (DPOConfig), is 'a'",
        "9 mistakes; nothing was started.",
    ]


@pytest.mark.parametrize("word", ["no", "yes", "off", "On"])
def test_no_and_yes_are_explained(tmp_path, word):
    found = message(tmp_path, GOOD + f"trainer: {{gradient_checkpointing: {word}}}")
    assert f"is '{word}' (a text in YAML 1.2; write true or false)" in found


def test_a_key_that_stands_twice_is_named_with_both_lines(tmp_path):
    assert "x.yaml:5: model stands twice, first in line 1" in message(tmp_path, GOOD + "data: {}\nmodel: n\n")


def test_a_tab_is_explained(tmp_path):
    assert "x.yaml:5: is indented with a tab" in message(tmp_path, GOOD + "trainer:\n\tbeta: 0.1\n")


@pytest.mark.parametrize("text", ["model：m\n", GOOD + "trainer：{}\n", GOOD + "trainer:\n  beta：0.1\n"])
def test_a_full_width_colon_is_explained(tmp_path, text):
    assert "full-width colon '：'" in message(tmp_path, text)


def test_a_full_width_colon_inside_a_text_is_left_alone(tmp_path):
    assert settings(tmp_path, GOOD.replace("o\n", '"甲：乙"\n')).output_dir == "甲：乙"


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("lora_rank: 8", "here it is lora.r"),
        ("cutoff_len: 512", "here it is trainer.max_length"),
        ("beta: 0.1", "did you mean trainer.beta?"),
    ],
)
def test_a_name_of_another_trainer_is_translated(tmp_path, key, hint):
    assert hint in message(tmp_path, GOOD + key)


@pytest.mark.parametrize(
    ("trainer", "reason"),
    [
        ("{loss_type: hinge, label_smoothing: 0.1}", "nothing reads it with hinge; it counts with aot, "),
        ("{loss_type: discopop, label_smoothing: 0.1}", "nothing reads it with discopop"),
        ("{pad_token: x}", "set the pad token in the model folder's tokenizer"),
        ("{trust_remote_code: true}", "TRL would ignore it"),
        ("{padding_free: true}", "TRL accepts it and does not do it"),
        ("{bf16: true}", "set compute"),
        ("{output_dir: x}", "set output_dir at the top level"),
        ("{ref_model_sync_steps: 64}", "TRL ignores it unless sync_ref_model is True"),
        ("{loss_type: sigmod}", "did you mean sigmoid?"),
        ("{loss_type: aot, gradient_accumulation_steps: 2}", "sorts the batch"),
    ],
)
def test_what_trl_would_ignore_or_misread_is_refused(tmp_path, trainer, reason):
    assert reason in message(tmp_path, GOOD + f"trainer: {trainer}")


def test_label_smoothing_is_passed_on_where_it_counts(tmp_path):
    assert (
        settings(tmp_path, GOOD + "trainer: {loss_type: robust, label_smoothing: 0.1}").trainer["loss_type"] == "robust"
    )


def test_a_missing_file_names_its_neighbours(tmp_path):
    (tmp_path / "dpo.yaml").write_text(GOOD)
    with pytest.raises(ConfigError, match=r"there is no such file; .* has: dpo\.yaml"):
        load_settings(DPOSettings, str(tmp_path / "dop.yaml"))


def test_a_file_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / "x.yaml").write_bytes("model: 模型\n".encode("gb18030"))
    with pytest.raises(ConfigError, match="must be UTF-8"):
        load_settings(SFTSettings, str(tmp_path / "x.yaml"))


def test_a_misspelt_key_is_reported_with_exit_code_2_and_without_torch(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(GOOD + "trainer: {learing_rate: 1e-6}\n")
    code = (
        "import sys; from align.recipes.dpo import DPORecipe; code = DPORecipe.main(sys.argv[1:]);"
        "assert not {'torch', 'transformers', 'trl'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "did you mean learning_rate?" in done.stderr


def test_a_launchers_local_rank_may_come_first(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(GOOD + "wrong: 1\n")
    words = [sys.executable, "-m", "align.recipes.dpo", "--local_rank=0", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, "x.yaml:4: wrong is not a setting" in done.stderr) == (2, True), done.stderr

"""Reference: DPO keeps the model that it starts from, whatever form that has, and proves it by its log-probs."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from align.errors import RefusedError
from align.models.identity import fingerprints
from align.models.load import load_model, load_tokenizer
from align.models.resolve import resolve
from align.recipes.dpo import DPORecipe
from align.recipes.sft import SFTRecipe
from align.store.records import read_json
from tests.recipes.launching import LORA, metrics


@pytest.fixture(scope="module")
def sft_adapter(tiny_model, tmp_path_factory) -> Path:
    """Run folder of an SFT run with LoRA that has learned something."""
    return sft(tiny_model, tmp_path_factory.mktemp("sft-adapter"), LORA)


@pytest.fixture(scope="module")
def sft_full(tiny_model, tmp_path_factory) -> Path:
    """The same, all weights trained."""
    return sft(tiny_model, tmp_path_factory.mktemp("sft-full"))


def sft(model: str, folder: Path, *more: str) -> Path:
    from align.data.files.rows import write_rows
    from tests.recipes.conftest import pair

    write_rows(folder / "pairs.jsonl", [pair(number) for number in range(16)])
    words = ["trainer={max_steps: 8, learning_rate: 1e-2, save_strategy: 'no', gradient_checkpointing: false}"]
    data = [f"model={model}", f"train_data={folder / 'pairs.jsonl'}", "compute=float32"]
    SFTRecipe.from_file(None, *data, *words, f"output_dir={folder / 'run'}", *more).run()
    return folder / "run"


def merged(adapter_run: Path, folder: Path) -> Path:
    """The adapter merged into its base, as a user would do it with peft."""
    model = load_model(str(adapter_run))
    model.merge_and_unload().save_pretrained(folder)
    load_tokenizer(str(adapter_run)).save_pretrained(folder)
    return folder


def dpo(words: list[str], model: Path | str, *more: str) -> dict:
    return DPORecipe.from_file(None, *words, f"model={model}", "trainer.save_strategy=steps", *more).run()


def recorded_reference(run: Path) -> list[float]:
    """Log-probs of the probe rows under the reference, as the last checkpoint has them."""
    manifest = read_json(run / "checkpoints" / "checkpoint-4" / "manifest.json")
    return manifest["facts"]["reference_probe"]["logps"]


def test_from_an_adapter_the_reference_is_that_adapter(words, tmp_path, sft_adapter):
    result = dpo(words, sft_adapter)
    assert result["reference"].startswith("auto: a frozen copy of the adapter")
    assert metrics(tmp_path / "run")[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    identity = read_json(sft_adapter / "model" / "identity.json")
    assert recorded_reference(tmp_path / "run") == pytest.approx(identity["probe"]["logps"], abs=1e-5)
    assert "reference_probe" not in result


def test_the_frozen_copy_is_in_the_checkpoint_and_not_in_the_final_model(words, tmp_path, sft_adapter):
    dpo(words, sft_adapter)
    assert (tmp_path / "run" / "checkpoints" / "checkpoint-4" / "ref").is_dir()
    saved = [str(file.relative_to(tmp_path / "run" / "model")) for file in (tmp_path / "run" / "model").rglob("*")]
    assert "adapter_model.safetensors" in saved
    assert not [name for name in saved if "ref" in name or name.endswith(".bin")]


@pytest.mark.parametrize("more", [[], [LORA]], ids=["full", "lora"])
def test_from_a_run_folder_of_a_full_sft_the_reference_is_the_sft_model(words, tmp_path, sft_full, more):
    dpo(words, sft_full, *more)
    identity = read_json(sft_full / "model" / "identity.json")
    assert metrics(tmp_path / "run")[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert recorded_reference(tmp_path / "run") == pytest.approx(identity["probe"]["logps"], abs=1e-5)


@pytest.mark.parametrize("more", [[], [LORA]], ids=["full", "lora"])
def test_from_a_merged_model_the_reference_is_the_merged_model(words, tmp_path, sft_adapter, more):
    dpo(words, merged(sft_adapter, tmp_path / "merged"), *more)
    identity = read_json(sft_adapter / "model" / "identity.json")  # a merged model answers as its adapter did
    assert metrics(tmp_path / "run")[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert recorded_reference(tmp_path / "run") == pytest.approx(identity["probe"]["logps"], abs=1e-4)


def test_another_model_as_reference_is_proven_too(words, tmp_path, sft_full, tiny_model):
    dpo(words, tiny_model, f"reference={sft_full}")
    identity = read_json(sft_full / "model" / "identity.json")
    assert metrics(tmp_path / "run")[0]["loss"] != pytest.approx(math.log(2), abs=1e-3)
    assert recorded_reference(tmp_path / "run") == pytest.approx(identity["probe"]["logps"], abs=1e-5)


def changed_adapter(run: Path, folder: Path) -> Path:
    """A copy of a run folder whose adapter is another one."""
    shutil.copytree(run, folder)
    file = folder / "model" / "adapter_model.safetensors"
    save_file({name: torch.zeros_like(tensor) for name, tensor in load_file(file).items()}, file)
    return folder


def test_an_adapter_that_was_changed_after_it_was_saved_is_refused(words, tmp_path, sft_adapter):
    with pytest.raises(RefusedError, match="SHA-256 of its adapter"):
        dpo(words, changed_adapter(sft_adapter, tmp_path / "changed"))


def test_a_reference_that_gives_other_log_probs_than_recorded_is_refused(words, tmp_path, sft_adapter):
    """As when the adapter is lost on the way: here it is the base that answers, with hashes that match."""
    run = changed_adapter(sft_adapter, tmp_path / "changed")
    identity = read_json(run / "model" / "identity.json")
    identity["files"] = fingerprints(resolve(str(run)))
    (run / "model" / "identity.json").write_text(json.dumps(identity))
    with pytest.raises(RefusedError, match="gives other log-probs than when it was saved"):
        dpo(words, run)

"""Verify record: stands for its own versions, device, arithmetic and model alone, and damage is no record."""

from __future__ import annotations

import json

import pytest

from align.errors import StorageError
from align.store.records import digest
from align.training.step import verified as verify_record
from align.training.step.verified import SHIPPED, Machine, forget, record, verified
from tests.training import trees

CONFIG = trees.config("Llama")
H100 = Machine("cuda", "NVIDIA H100 80GB HBM3", "9.0")


def test_a_record_stands_for_what_it_names(tmp_path):
    record(CONFIG, H100, "bfloat16", {"seconds": 1.0}, tmp_path)
    assert verified(CONFIG, H100, "bfloat16", records=tmp_path) is None


@pytest.mark.parametrize(
    ("config", "machine", "compute"),
    [
        (CONFIG, H100, "float32"),
        (CONFIG, Machine("cuda", "NVIDIA L4", "8.9"), "bfloat16"),
        (CONFIG, Machine("cuda", H100.name, "9.1"), "bfloat16"),
        (trees.config("Qwen2"), H100, "bfloat16"),
        (trees.config("Llama", num_key_value_heads=4), H100, "bfloat16"),
        (trees.config("Llama", head_dim=64), H100, "bfloat16"),
    ],
)
def test_nothing_else_is_verified_by_it(tmp_path, config, machine, compute):
    record(CONFIG, H100, "bfloat16", {}, tmp_path)
    reason = verified(config, machine, compute, "my/model", tmp_path)
    assert reason.startswith(f"the tree has not been verified on {machine.name} with torch ")
    assert reason.endswith(f"run `align verify my/model --compute {compute}`")


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '{"facts": 3}', "\udcff"])
def test_a_damaged_record_is_none(tmp_path, content):
    file = record(CONFIG, H100, "bfloat16", {}, tmp_path)
    file.write_bytes(content.encode(errors="surrogateescape"))
    assert "has not been verified" in verified(CONFIG, H100, "bfloat16", records=tmp_path)


def test_a_record_of_another_torch_is_stale(tmp_path):
    file = record(CONFIG, H100, "bfloat16", {}, tmp_path)
    content = json.loads(file.read_text(encoding="utf-8"))
    content["facts"]["torch"] = "2.6.0"
    file.write_text(json.dumps(content), encoding="utf-8")
    assert "has not been verified" in verified(CONFIG, H100, "bfloat16", records=tmp_path)


def test_a_record_can_be_taken_away(tmp_path):
    forget(CONFIG, H100, "bfloat16", tmp_path)
    record(CONFIG, H100, "bfloat16", {}, tmp_path)
    forget(CONFIG, H100, "bfloat16", tmp_path)
    assert "has not been verified" in verified(CONFIG, H100, "bfloat16", records=tmp_path)


@pytest.mark.parametrize("name", ["align", "torch", "transformers", "trl", "device", "capability", "hidden_size"])
def test_a_shipped_record_with_another_fact_is_none(tmp_path, name):
    shipped = tmp_path / "shipped"
    file = record(CONFIG, H100, "bfloat16", {}, shipped)
    assert verified(CONFIG, H100, "bfloat16", records=tmp_path / "own", shipped=shipped) is None
    content = json.loads(file.read_text(encoding="utf-8"))
    content["facts"][name] = "another"
    file.write_text(json.dumps(content), encoding="utf-8")
    assert "not been verified" in verified(CONFIG, H100, "bfloat16", records=tmp_path / "own", shipped=shipped)


def test_a_verification_that_fails_here_overrules_a_shipped_record(tmp_path):
    own, shipped = tmp_path / "own", tmp_path / "shipped"
    record(CONFIG, H100, "bfloat16", {}, shipped)
    forget(CONFIG, H100, "bfloat16", own, shipped)
    assert "failed `align verify`" in verified(CONFIG, H100, "bfloat16", records=own, shipped=shipped)
    record(CONFIG, H100, "bfloat16", {}, own)
    assert verified(CONFIG, H100, "bfloat16", records=own, shipped=shipped) is None


def test_shipped_records_say_what_they_hold_for():
    names = set(verify_record._facts(CONFIG, H100, "bfloat16"))
    for file in SHIPPED.glob("*.json"):
        content = json.loads(file.read_text(encoding="utf-8"))
        facts = content["facts"]
        assert set(facts) == names and "failed" not in content, file
        assert file.name == f"{facts['model_type']}-{facts['compute']}-{digest(facts)[:16]}.json"
        assert facts["capability"] is not None, f"{file}: a CPU needs no record"


def test_it_lies_in_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert record(CONFIG, H100, "bfloat16", {}).parent == tmp_path / "align" / "verified"
    assert verified(CONFIG, H100, "bfloat16") is None


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="the record of a passed verification cannot be written"):
        record(CONFIG, H100, "bfloat16", {}, tmp_path / "file" / "folder")

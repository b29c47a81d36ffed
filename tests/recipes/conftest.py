"""Rows and settings for recipes on the tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest

from align.data.files.rows import write_rows
from align.data.rows.pair import Message, PreferencePair


def pair(number: int, chosen: str = "good") -> PreferencePair:
    return PreferencePair(
        (Message("user", f"question {number}?"),),
        (Message("assistant", f"{chosen} {number}"),),
        (Message("assistant", f"a bad answer, number {number}"),),
        {},
    )


@pytest.fixture
def pairs_file(tmp_path: Path) -> str:
    """Sixteen pairs."""
    write_rows(tmp_path / "pairs.jsonl", [pair(number) for number in range(16)])
    return str(tmp_path / "pairs.jsonl")


@pytest.fixture
def words(tiny_model: str, pairs_file: str, tmp_path: Path) -> list[str]:
    """Settings of a run of four steps in float32."""
    return [
        f"model={tiny_model}",
        f"train_data={pairs_file}",
        f"output_dir={tmp_path / 'run'}",
        "compute=float32",
        "trainer={max_steps: 4, logging_steps: 1, learning_rate: 1e-3, per_device_train_batch_size: 4}",
        "trainer.gradient_checkpointing=false",
        "trainer.save_strategy='no'",
    ]

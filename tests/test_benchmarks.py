"""Benchmarks: each still runs against the library as it is, and its figures hold the floors of its `--check`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
CHECKED = sorted(file.name for file in FOLDER.glob("*.py") if '"--check"' in file.read_text(encoding="utf-8"))
PARTS = {"operations.py", "preference_arms.py", "gpu_step.py", "gpu_table.py"}
"""What other benchmarks import or start."""
NEEDS = {"learning_rates.py": "data/short/pairs.jsonl"}
"""Benchmark → the file that `make demo` leaves for it."""


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=FOLDER.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
    )


def test_every_benchmark_has_a_check():
    assert set(CHECKED) | PARTS == {file.name for file in FOLDER.glob("*.py")}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKED)
def test_the_check_of_a_benchmark_holds_its_floors(name, tmp_path):
    needed = FOLDER.parent / NEEDS.get(name, "")
    if not needed.exists():
        pytest.skip(f"{needed}: run `make demo` first")
    ended = run(sys.executable, f"benchmarks/{name}", "--check")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.strip()


@pytest.mark.slow
def test_the_gpu_acceptance_runs_on_a_tiny_shape(tmp_path):
    settings = {"SIZES": "tiny", "SHAPES": "64:16", "VERIFY": "no", "RESULTS": str(tmp_path / "lines.jsonl")}
    ended = run("bash", "benchmarks/gpu_acceptance.sh", **settings)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Qwen2.5-tiny shape" in ended.stdout

"""What training on a builder's pairs does: the benchmark of one builder, from the questions to the verdict."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
def test_training_on_100_pairs_of_student_teaches_the_skill(tmp_path):
    """A quarter of an hour on two cores; the other builders: `python benchmarks/builders.py`."""
    command = [sys.executable, str(ROOT / "benchmarks" / "builders.py"), "--only", "student", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    cells = [cell.strip() for cell in done.stdout.splitlines()[-1].strip("| ").split("|")]
    builder, num_pairs, base, sft, dpo = cells[0], cells[1], *(float(cell.strip("%")) for cell in cells[4:7])
    assert (builder, num_pairs) == ("student", "100")
    assert sft > base + 20 and dpo > base + 20

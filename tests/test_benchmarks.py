"""Benchmarks: each still runs against the library as it is, and its figures hold the floors of its `--check`."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

FOLDER = Path(__file__).parent.parent / "benchmarks"
CHECKED = sorted(file.name for file in FOLDER.glob("*.py") if '"--check"' in file.read_text(encoding="utf-8"))
GPU = {f"gpu_{part}.py" for part in ("acceptance", "model", "parts", "recipes", "step", "table", "teacher")}
PARTS = {"operations.py", "preference_arms.py", *GPU}
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


def acceptance(results: Path, *words: str) -> tuple[subprocess.CompletedProcess[str], list[dict]]:
    ended = run("bash", "benchmarks/gpu_acceptance.sh", "--dry", "--results", str(results), *words)
    rows = [json.loads(line) for line in (results / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    return ended, rows


ONE_OF_EACH = (
    "verify 0.5B bf",
    "step 0.5B lora 1024",
    "recipe dpo alone",
    "recipe dpo ZeRO 3",
    "recipe grpo",
    "teacher",
)
"""Of each program that GPU acceptance starts; the others differ in a size or a number."""


def test_gpu_acceptance_runs_dry(tmp_path):
    ended, rows = acceptance(tmp_path / "a folder", "--only", *ONE_OF_EACH)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    done = [row["part"] for row in rows if row["kind"] == "part"]
    assert len(done) == 2 + len(ONE_OF_EACH)
    table = (tmp_path / "a folder" / "table.md").read_text(encoding="utf-8")
    assert table in ended.stdout
    assert "verify: all 37 checks passed" in table and "varlen: no kernel: varlen attention runs on CUDA" in table
    assert "in force: 2 processes (backend gloo), ZeRO stage 3" in table
    assert {path.name for path in (tmp_path / "a folder").iterdir() if path.suffix != ".json"} == {
        "log.txt",
        "results.jsonl",
        "table.md",
    }
    assert [path.name.startswith("qwen2-bfloat16-") for path in (tmp_path / "a folder").glob("*.json")] == [True]


@pytest.mark.slow
def test_gpu_acceptance_runs_dry_in_full(tmp_path):
    ended, rows = acceptance(tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert {row["kind"] for row in rows} == {"machine", "part", "step", "zero", "grpo", "teacher"}


@pytest.fixture
def modules(monkeypatch):
    """`modules("gpu_table")` is a module of the folder, which is no package."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


SPEAKS = """print('100%|███|{"kind": "machine", "card": "this one"}')"""
HANGS = "import signal; print('begun', flush=True); signal.pause()"


def test_a_part_that_fails_or_hangs_costs_itself_alone(modules, tmp_path):
    gpu, Part = modules("gpu_acceptance"), modules("gpu_parts").Part
    results = gpu.Results(tmp_path)
    parts = [
        Part("fails", ("-c", "import sys; sys.exit('no such card')"), 60, 0),
        Part("hangs", ("-c", HANGS), 2, 0),
        Part("speaks", ("-c", SPEAKS), 60, 0),
        Part("needs more", ("-c", SPEAKS), 60, 1e6),
    ]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    gpu.run_all(iter(parts), time.monotonic() + 600, environment, results, gpu.Stop())
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    outcomes = {row["part"]: (row["ended"], row["said"]) for row in rows if row["kind"] == "part"}
    assert outcomes == {
        "fails": ("exit code 1", ["no such card"]),
        "hangs": ("ended at its limit of 2 s", ["begun"]),
        "speaks": ("done", []),
        "needs more": ("not run: no time left", []),
    }
    text, is_right = modules("gpu_table").render(rows)
    assert not is_right
    assert "card this one" in text and "| fails | exit code 1 | 0 | no such card |" in text
    assert text == (tmp_path / "table.md").read_text(encoding="utf-8")


def test_a_kill_leaves_a_table_of_what_was_measured_and_no_process(tmp_path):
    code = f"""
import os, time
from pathlib import Path
from gpu_acceptance import Results, Stop, run_all
from gpu_parts import Part
stop = Stop()
stop.listen()
parts = [Part("speaks", ("-c", {SPEAKS!r}), 60, 0), Part("hangs", ("-c", {HANGS!r}), 60, 0)]
parts.append(Part("is not begun", ("-c", {SPEAKS!r}), 60, 0))
results = Results(Path({str(tmp_path)!r}))
run_all(iter(parts), time.monotonic() + 600, {{**os.environ, "XDG_CACHE_HOME": "."}}, results, stop)
"""
    environment = {**os.environ, "PYTHONPATH": str(FOLDER)}
    command = [sys.executable, "-u", "-c", code]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as gpu:
        while gpu.stdout.readline().strip() != "hangs …":
            assert gpu.poll() is None
        gpu.send_signal(signal.SIGTERM)
        assert gpu.wait(60) == 0
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "| speaks | done |" in table and "| hangs | ended by signal 15 |" in table
    assert "| is not begun | not run: signal 15 |" in table
    assert not [each for each in psutil.process_iter(["cmdline"]) if HANGS in (each.info["cmdline"] or [])]


def step(arm: str, loss: float) -> dict:
    named = {"kind": "step", "part": "one", "size": "0.5B", "tune": "lora", "shape": "8:8", "pairs": 4, "arm": arm}
    settings = {"forward": "tree", "checkpointing": False, "loss": loss, "gradient_norm": 1.0, "seconds": 1.0}
    numbers = {"pairs_per_second": 4.0, "operations": 1e12, "ceiling": 1e13}
    return {**named, **settings, **numbers, "peak_bytes": 2**30, "reserved_bytes": 2**31}


@pytest.mark.parametrize(("loss", "cell", "is_fine"), [(0.70, "| 1.00 |", True), (0.80, "| losses differ |", False)])
def test_no_speed_up_is_shown_where_losses_differ(modules, loss, cell, is_fine):
    ended = {"kind": "part", "part": "one", "ended": "done", "seconds": 1.0, "said": []}
    text, is_right = modules("gpu_table").render([step("TRL", 0.69), step("ours", loss), ended])
    assert (cell in text, is_right) == (True, is_fine)


def test_the_product_with_a_type_of_its_own_is_counted(modules):
    addmm = torch.ops.aten.addmm
    count = modules("operations").counter().flop_registry[addmm]
    given = (torch.zeros(4, 5), torch.zeros(4, 3), torch.zeros(3, 5))
    assert count(*given, torch.float32, out_val=given[0]) == count(*given, out_val=given[0]) == 2 * 4 * 3 * 5

"""Start-up: what an import and an error message cost, medians of several fresh processes.

    python benchmarks/startup.py [--check]

Floors: import align 0.1 s, from align import DPORecipe 0.3 s, --help 0.5 s, the misspelt-key error 1 s.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

YAML = "model: m\ntrain_data: d.jsonl\noutput_dir: o\ntrainer: {learing_rate: 5e-6}\n"


def seconds_of_import(statement: str) -> float:
    """Seconds that a statement takes in a fresh interpreter, which must not load torch."""
    code = (
        f"import sys, time; start = time.perf_counter(); {statement}; print(time.perf_counter() - start);"
        "assert 'torch' not in sys.modules"
    )
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def seconds_of_command(words: list[str], exit_code: int) -> float:
    """Seconds of a whole process that must end with an exit code."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, check=False)
    if done.returncode != exit_code:
        raise SystemExit(f"{words}: must end with exit code {exit_code}, ended with {done.returncode}: {done.stderr}")
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fewer repetitions; exit 1 when a floor is missed")
    num_runs = 5 if parser.parse_args().check else 15
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.yaml"
        path.write_text(YAML, encoding="utf-8")
        cases: list[tuple[str, float, Callable[[], float]]] = [
            ("import align", 0.1, lambda: seconds_of_import("import align")),
            ("from align import DPORecipe", 0.3, lambda: seconds_of_import("from align import DPORecipe")),
            ("align.recipes.dpo --help", 0.5, lambda: seconds_of_command(["align.recipes.dpo", "--help"], 0)),
            ("align --help", 0.5, lambda: seconds_of_command(["align.cli", "--help"], 0)),
            ("misspelt key", 1.0, lambda: seconds_of_command(["align.recipes.dpo", str(path)], 2)),
        ]
        found = {name: median(case() for _ in range(num_runs)) for name, _, case in cases}
    missed = [name for name, floor, _ in cases if found[name] > floor]
    for name, floor, _ in cases:
        print(f"{name:<30} {found[name]:.3f} s   at most {floor} s")
    print(f"{len(cases) - len(missed)} of {len(cases)} within their floor")
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()

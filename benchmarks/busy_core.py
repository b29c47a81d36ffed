"""Busy core: how long a DPO step of the demo takes beside another busy process, over what it takes on a quiet machine.

    python benchmarks/busy_core.py [--check]

Runs the recipe itself on the embedded model, with the demo's settings and rows of the demo's lengths, all alike. A
process that spins is let go for every other step and halted for the steps between, so quiet and busy steps alternate;
times are the clock's, medians of each kind. With two cores and two threads a fair share is 1.5 to 2 times as long.
The last figure is that of the default; without --check those of other settings stand before it.
--check: the default alone; exit code 1 above the ceiling. It wants a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

CEILING = 2.5
"""Times as long, with as many threads as the library takes by itself."""
NUM_WARM, NUM_STEPS = 1, 5
"""Steps that are not counted, and steps of each kind that are; of the counted ones the first is a busy one."""
SETTINGS: dict[str, dict[str, str]] = {
    "OMP_WAIT_POLICY=active": {"OMP_WAIT_POLICY": "active"},  # what a process without align has
    "OMP_NUM_THREADS=1": {"OMP_NUM_THREADS": "1"},
    "default": {},
}
WORDS = "The river runs slowly past the old stone mill and turns its wheel all day long while children watch it. "


def write_rows(path: Path, num_rows: int) -> None:
    """Pairs of about 20, 25 and 90 tokens: the lengths of the demo's questions, chosen and rejected sides."""
    row = {
        "prompt": [{"role": "user", "content": WORDS}],
        "chosen": [{"role": "assistant", "content": WORDS + "Yes."}],
        "rejected": [{"role": "assistant", "content": WORDS * 4}],
    }
    rows = []
    for number in range(num_rows):
        row["prompt"][0]["content"] = f"{WORDS} {number:04d}?"
        rows.append(json.dumps(row))
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


@contextmanager
def spinning() -> Iterator[subprocess.Popen[bytes]]:
    """A process that keeps one core busy while it is not halted; it begins halted."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    process.send_signal(signal.SIGSTOP)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def times_of_rows(metrics: Path, run: subprocess.Popen[bytes]) -> Iterator[float]:
    """When each step was logged, as soon as it stands in the file."""
    num_seen = 0
    while run.poll() is None:
        rows = metrics.read_text(encoding="utf-8").splitlines() if metrics.is_file() else []
        steps = [row["time"] for row in map(json.loads, rows) if "loss" in row]
        yield from steps[num_seen:]
        num_seen = max(num_seen, len(steps))
        time.sleep(0.005)


def measure(setting: dict[str, str]) -> tuple[float, float]:
    """(Seconds of a step on a quiet machine, beside a busy process)."""
    num_steps = NUM_WARM + 2 * NUM_STEPS
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    with tempfile.TemporaryDirectory() as name, spinning() as other:
        folder = Path(name)
        write_rows(folder / "pairs.jsonl", 4 * (num_steps + 1))
        command = [
            *(sys.executable, "-m", "align.recipes.dpo", "recipes/short_dpo.yaml", f"train_data={folder}/pairs.jsonl"),
            *(f"output_dir={folder}/run", "trainer.logging_steps=1", "trainer.num_train_epochs=1"),
        ]
        with (folder / "log").open("wb") as log:
            run = subprocess.Popen(command, env={**environment, **setting}, stdout=log, stderr=log)
        moments: list[float] = []
        for moment in times_of_rows(folder / "run" / "metrics.jsonl", run):
            moments.append(moment)
            if len(moments) == num_steps:
                run.send_signal(signal.SIGTERM)
                break
            is_next_busy = (len(moments) - NUM_WARM) % 2 == 0
            other.send_signal(signal.SIGCONT if is_next_busy else signal.SIGSTOP)
        run.wait()
        if len(moments) < num_steps:
            raise SystemExit((folder / "log").read_text(encoding="utf-8"))
    seconds = [later - earlier for earlier, later in itertools.pairwise(moments)][NUM_WARM - 1 :]
    return median(seconds[1::2]), median(seconds[0::2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="the default alone; exit 1 above the ceiling")
    is_check = parser.parse_args().check
    print(f"{'setting':<24} quiet step   busy step   times as long")
    ratio = 0.0
    for name, setting in SETTINGS.items():
        if is_check and setting:
            continue
        quiet, busy = measure(setting)
        ratio = busy / quiet
        print(f"{name:<24} {quiet:8.2f} s  {busy:8.2f} s   {ratio:.2f}", flush=True)
    print(f"default: {ratio:.2f} times as long beside a busy process (at most {CEILING})")
    raise SystemExit(1 if ratio > CEILING else 0)


if __name__ == "__main__":
    main()

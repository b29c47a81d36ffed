"""GPU acceptance: runs each part in a process of its own with a time limit, and keeps every line as it comes.

    benchmarks/gpu_acceptance.sh --quick | --dry | [MODEL]      (docs/gpu.md)

A part that fails, hangs or does not fit costs itself alone. After each line RESULTS/results.jsonl and RESULTS/table.md
hold all that was measured so far; log.txt has all that was printed, and the records of `align verify` stand beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gpu_parts import Part, Plan, full, quick
from gpu_table import render

ROOT = Path(__file__).resolve().parent.parent
NUM_SAID = 60
"""Last lines of a part that are kept with its outcome; all are in the log."""
GRACE = 10.0
"""Seconds between asking a part to end and ending it."""


class Results:
    """The files of RESULTS."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.rows: list[dict[str, Any]] = []
        self.log = folder / "log.txt"
        for name in ("log.txt", "results.jsonl", "table.md"):
            (folder / name).write_text("", encoding="utf-8")

    def add(self, row: dict[str, Any]) -> None:
        """Append a row and write the table anew, whole or not at all."""
        self.rows.append(row)
        with (self.folder / "results.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        draft = self.folder / ".table.md"
        draft.write_text(render(self.rows)[0], encoding="utf-8")
        draft.replace(self.folder / "table.md")

    def keep_records(self, cache: Path) -> None:
        """What `align verify` left, to be looked at and committed."""
        for file in (cache / "align" / "verified").glob("*.json"):
            shutil.copy(file, self.folder)


class Stop:
    """What SIGTERM and SIGINT ask for: the part that runs is ended and the others are left out."""

    def __init__(self) -> None:
        self.number = 0

    def listen(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._take)

    def _take(self, number: int, _: Any) -> None:
        self.number = number  # no exception: it could come between the birth of a process and our knowing of it


def run(part: Part, limit: float, environment: dict[str, str], results: Results, stop: Stop) -> int | None:
    """Run a part to its end or its limit; its JSON lines become rows while it runs.

    Returns:
        Its exit code; None where it was ended.
    """
    began = time.monotonic()
    print(f"{part.name} …", flush=True)
    said: list[str] = []

    def take(line: str) -> None:
        row = _row(line)
        if row is None:
            said.append(line)
        else:
            results.add({**row, "part": part.name})

    with results.log.open("ab") as log, results.log.open("r", encoding="utf-8", errors="replace") as seen:
        log.write(f"\n## {part.name}: {' '.join(part.words)}\n".encode())
        log.flush()
        seen.seek(0, os.SEEK_END)
        process = subprocess.Popen(
            [sys.executable, "-u", *part.words],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            ended = _wait(process, began + limit, lambda: _take_lines(seen, take), stop)
        finally:
            _end(process)
        _take_lines(seen, take, is_last=True)
    outcome = f"exit code {ended}" if ended else "done"
    if ended is None:
        outcome = f"ended by signal {stop.number}" if stop.number else f"ended at its limit of {limit:.0f} s"
    seconds = round(time.monotonic() - began, 1)
    results.add({"kind": "part", "part": part.name, "ended": outcome, "seconds": seconds, "said": said[-NUM_SAID:]})
    print(f"  {outcome}, {seconds:.0f} s", flush=True)
    return ended


def _row(line: str) -> dict[str, Any] | None:
    """What a part printed as JSON, behind a progress bar that lacks its newline too; None for other lines."""
    at = line.find('{"kind"')
    if at < 0:
        return None
    try:
        row = json.loads(line[at:])
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _wait(process: subprocess.Popen[bytes], until: float, look: Callable[[], None], stop: Stop) -> int | None:
    """The exit code; None when the time is up, or a signal has come."""
    while time.monotonic() < until and not stop.number:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(timeout=0.5)
        look()
    return None


def _take_lines(seen: Any, take: Callable[[str], None], is_last: bool = False) -> None:
    """Whole lines that came since the last look."""
    while True:
        at = seen.tell()
        line = seen.readline()
        if not line.endswith("\n") and not (is_last and line):
            seen.seek(at)
            return
        if line.strip():
            take(line.strip())


def _end(process: subprocess.Popen[bytes]) -> None:
    """The part and all that it started: asked first, so that a launcher can end its own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=GRACE)


def run_all(parts: Iterator[Part], deadline: float, environment: dict[str, str], results: Results, stop: Stop) -> None:
    """Parts that no longer fit are said to be left out."""
    for part in parts:
        left = deadline - time.monotonic()
        if left < part.need or stop.number:
            why = f"not run: {f'signal {stop.number}' if stop.number else 'no time left'}"
            results.add({"kind": "part", "part": part.name, "ended": why, "seconds": 0.0, "said": []})
            continue
        ended = run(part, min(part.limit, left), environment, results, stop)
        if ended == 2 and part.name.startswith("model"):
            print(results.rows[-1]["said"][-1], file=sys.stderr)  # there is no GPU
            raise SystemExit(2)
        results.keep_records(Path(environment["XDG_CACHE_HOME"]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="Qwen/Qwen2.5-0.5B-Instruct", help="verified in the long one")
    parser.add_argument("--quick", action="store_true", help="seven minutes, random weights alone")
    parser.add_argument("--dry", action="store_true", help="the quick one with tiny shapes on a CPU")
    parser.add_argument("--only", nargs="+", default=[""], help="parts whose names begin so; models are always made")
    parser.add_argument("--deadline", type=float, help="seconds for all parts together (quick: 420)")
    parser.add_argument("--tokenizer", type=Path, help="folder of a real one (default: .cuda/tokenizer if there)")
    parser.add_argument("--results", type=Path, default=ROOT / "runs" / "gpu-acceptance", help="folder of what is kept")
    return parser.parse_args()


def main() -> int:
    began = time.monotonic()
    options = _options()
    stop = Stop()
    stop.listen()
    results = Results(options.results.absolute())
    default = ROOT / ".cuda" / "tokenizer"
    tokenizer = options.tokenizer or (default if default.is_dir() and not options.dry else None)
    with tempfile.TemporaryDirectory(prefix="gpu-acceptance-", ignore_cleanup_errors=True) as work:
        is_short = options.quick or options.dry
        plan = Plan(Path(work), tokenizer and tokenizer.absolute(), options.dry, 1.0 if options.quick else 6.0)
        parts = quick(plan) if is_short else full(plan, options.model)
        wanted = tuple(options.only)
        environment = {**os.environ, "XDG_CACHE_HOME": str(plan.work / "cache"), "HF_HUB_DISABLE_TELEMETRY": "1"}
        if options.dry:
            environment |= {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
        if is_short:
            environment["HF_HUB_OFFLINE"] = "1"
        allowed = options.deadline or (420.0 if options.quick else 6 * 3600.0)
        chosen = (part for part in parts if part.name.startswith(("model", *wanted)))
        run_all(chosen, began + allowed, environment, results, stop)
    text, is_right = render(results.rows)
    print(f"\n{text}\n{results.folder}", flush=True)
    return 0 if is_right else 1


if __name__ == "__main__":
    raise SystemExit(main())

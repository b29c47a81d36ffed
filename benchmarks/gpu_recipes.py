"""GPU recipes: real runs of recipes for GPU acceptance, ZeRO stages against none and a few steps of GRPO.

    python benchmarks/gpu_recipes.py dpo --model FOLDER --work FOLDER [--stage 2]
    python benchmarks/gpu_recipes.py grpo --model FOLDER --work FOLDER

Each is started as a user would, in a process of its own, with the `deepspeed` launcher where a stage is given; its
`metrics.jsonl` is read, and one JSON line is printed. `dpo` without a stage leaves the losses that the others are held
against: ten steps in float32, where only the order of sums differs. Exit code 1 where something is not as it must be.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NUM_STEPS, NUM_ROWS, BATCH = 10, 16, 4
TOLERANCE = 1e-3
"""Of a loss near log 2 after up to ten steps of AdamW, which blows differences in the last digits of gradients up."""
LEAST_CHANGE = 20 * TOLERANCE
"""What the losses must move by in ten steps, or that they are equal says nothing."""


def letters(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
    """A reward that tells completions of an untrained model apart: the share of letters before n."""
    texts = [completion[0]["content"].lower() for completion in completions]
    return [sum("a" <= letter <= "m" for letter in text) / max(len(text), 1) for text in texts]


def rows() -> list[dict[str, Any]]:
    """Pairs whose prompts are longer than their answers, so that a tree pays."""
    message = "It is late, the shop by the bridge is closed, and the lamp in its window burns. "
    return [
        {
            "prompt": [{"role": "user", "content": f"{message * (1 + number % 3)}Who is there, number {number}?"}],
            "chosen": [{"role": "assistant", "content": "The keeper, " + "and nobody else " * (1 + number % 4)}],
            "rejected": [{"role": "assistant", "content": f"I would rather not say that {number} times over."}],
        }
        for number in range(NUM_ROWS)
    ]


def settings(options: argparse.Namespace, name: str) -> list[str]:
    """What both recipes are given; the rows are written."""
    options.work.mkdir(parents=True, exist_ok=True)
    data = options.work / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    return [f"model={options.model}", f"train_data={data}", f"output_dir={options.work / name}"]


def run(start: Sequence[str], words: Sequence[str]) -> tuple[str, int]:
    """All that a recipe printed, which is passed on, and its exit code."""
    process = subprocess.Popen(
        [sys.executable, *start, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines = []
    assert process.stdout is not None
    for line in process.stdout:  # as it comes: a run that hangs must leave what it said
        print(line, end="", flush=True)
        lines.append(line)
    return "".join(lines), process.wait()


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The steps that a run logged, in order; none where it logged none."""
    file = folder / "metrics.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [row for row in map(json.loads, lines) if "loss" in row]


def dpo(options: argparse.Namespace) -> dict[str, Any]:
    """Full training with the tree."""
    name = "without ZeRO" if options.stage is None else f"ZeRO stage {options.stage}"
    processes, backend = (1, "none") if options.stage is None else (options.processes, options.backend)
    steps = "max_steps: 10, logging_steps: 1, learning_rate: 3e-6, save_strategy: 'no', report_to: none"
    words = [
        *settings(options, name.replace(" ", "-")),
        *("compute=float32", "forward=tree", f"trainer={{{steps}}}"),
        f"trainer.per_device_train_batch_size={BATCH // processes}",
        *([] if options.stage is None else [f"zero.stage={options.stage}"]),
    ]
    start = ["-m", "align.recipes.dpo"]
    if options.stage is not None:
        launcher = ["-m", "deepspeed.launcher.runner", "--num_gpus", str(processes), "--master_port", str(_free_port())]
        start = [*launcher, "--module", "align.recipes.dpo"]
    output, code = run(start, words)
    in_force = next((line.strip() for line in output.splitlines() if "in force:" in line), "")
    found = [row["loss"] for row in metrics(options.work / name.replace(" ", "-"))]
    expected = [row["loss"] for row in metrics(options.work / "without-ZeRO")]
    return {
        "kind": "zero",
        "name": name,
        "in_force": in_force,
        "losses": found,
        "largest_difference": _largest(found, expected),
        "tolerance": TOLERANCE,
        "wrong": _wrong(code, name in in_force and f"backend {backend})" in in_force, found, expected),
    }


def _wrong(code: int, is_in_force: bool, found: list[float], expected: list[float]) -> str | None:
    if code:
        return f"exit code {code}"
    if not is_in_force:
        return "another backend or ZeRO stage is in force"
    if len(found) != NUM_STEPS or len(expected) != NUM_STEPS:
        return f"{len(found)} losses against {len(expected)}, not {NUM_STEPS}"
    if not max(expected) - min(expected) > LEAST_CHANGE:
        return f"the losses moved by less than {LEAST_CHANGE:g}, so that they are equal says nothing"
    return None if _largest(found, expected) <= TOLERANCE else "losses differ"


def _largest(found: list[float], expected: list[float]) -> float:
    return max((abs(one - other) for one, other in zip(found, expected, strict=False)), default=math.inf)


def grpo(options: argparse.Namespace) -> dict[str, Any]:
    """Three steps with LoRA, in bfloat16."""
    steps = "max_steps: 3, logging_steps: 1, learning_rate: 1e-5, save_strategy: 'no', report_to: none, beta: 0.04"
    words = [
        *settings(options, "grpo"),
        *("lora={r: 8, target_modules: all-linear}", "rewards=[{use: benchmarks.gpu_recipes.letters}]"),
        f"trainer={{{steps}, num_generations: 4, per_device_train_batch_size: 8}}",
        f"trainer.max_completion_length={options.tokens}",
    ]
    _, code = run(["-m", "align.recipes.grpo"], words)
    kept = ("loss", "reward", "kl", "entropy", "grad_norm", "step_time", "completions/mean_length")
    found = [{name: row[name] for name in kept if name in row} for row in metrics(options.work / "grpo")]
    wrong = f"exit code {code}" if code else None if len(found) == 3 else f"{len(found)} steps, not 3"
    if wrong is None and not all(math.isfinite(value) for row in found for value in row.values()):
        wrong = "not finite"
    return {"kind": "grpo", "steps": found, "wrong": wrong}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=["dpo", "grpo"])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for rows and runs")
    parser.add_argument("--stage", type=int, choices=[0, 1, 2, 3], help="of ZeRO; left out, no launcher")
    parser.add_argument("--processes", type=int, default=1, help="under the launcher; the global batch stays")
    parser.add_argument("--backend", default="nccl", help="that must be in force under the launcher")
    parser.add_argument("--tokens", type=int, default=64, help="of a GRPO completion")
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    row = dpo(options) if options.recipe == "dpo" else grpo(options)
    print(json.dumps(row), flush=True)
    return 1 if row["wrong"] else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""GPU table: the JSON lines of gpu_step.py as the markdown table of docs/gpu.md.

python benchmarks/gpu_table.py LINES.jsonl     (exits with 1 where the arms' losses differ; those get no ratio)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

LOSS_TOLERANCE = 0.05
"""bfloat16: a completion's log-prob differs by up to half a nat between two ways to batch it, times a beta of 0.1."""
NORM_TOLERANCE = 0.1
"""Relative, of the gradient norm."""
HEADER = (
    "model",
    "weights trained",
    "prompt:completion",
    "arm",
    "checkpointing",
    "pairs/s",
    "times TRL",
    "TFLOP/s",
    "of the matrix ceiling",
    "peak GiB",
)


def is_same(row: dict[str, Any], other: dict[str, Any]) -> bool:
    return (
        abs(row["loss"] - other["loss"]) <= LOSS_TOLERANCE
        and abs(row["gradient_norm"] - other["gradient_norm"]) <= NORM_TOLERANCE * other["gradient_norm"]
    )


def speed_up(row: dict[str, Any], rows: list[dict[str, Any]]) -> tuple[str, bool]:
    """(cell, whether the losses agree)."""
    key = ("size", "tune", "shape", "pairs")
    twins = [each for each in rows if each["arm"] == "TRL" and all(each.get(name) == row.get(name) for name in key)]
    if row["arm"] == "TRL" or not twins or "seconds" not in twins[0]:
        return "", True
    if not is_same(row, twins[0]):
        return "losses differ", False
    return f"{twins[0]['seconds'] / row['seconds']:.2f}", True


def cells(row: dict[str, Any], ratio: str) -> list[str]:
    arm = f"ours: {row['forward']}" if row["arm"] == "ours" else "TRL, best settings"
    first = [f"Qwen2.5-{row['size']} shape", row["tune"], f"{row['shape']} × {row['pairs']}", arm]
    if "seconds" not in row:
        return [*first, row["not_measured"], *[""] * 5]
    speed = row["operations"] / row["seconds"]
    return [
        *first,
        "on" if row["checkpointing"] else "off",
        f"{row['pairs_per_second']:.2f}",
        ratio,
        f"{speed / 1e12:.1f}",
        f"{speed / row['ceiling']:.0%}",
        "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**30:.1f}",
    ]


def main(path: Path) -> int:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    measured = [row for row in rows if "ceiling" in row]
    for line in sorted({f"{row['device']}, torch {row['torch']}" for row in measured}):
        best = max(row["ceiling"] for row in measured)
        print(f"{line}; ceiling of a bfloat16 matrix product: {best / 1e12:.1f} TFLOP/s\n")
    print(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}")
    all_same = True
    for row in rows:
        ratio, same = speed_up(row, rows) if "seconds" in row else ("", True)
        all_same &= same
        print(f"| {' | '.join(cells(row, ratio))} |")
    return 0 if all_same else 1


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))

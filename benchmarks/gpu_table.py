"""GPU table: what GPU acceptance measured, from its JSON lines, as the markdown of docs/gpu.md.

python benchmarks/gpu_table.py results.jsonl     (exits with 1 where something differs, failed or was not run)
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

LOSS_TOLERANCE = 0.05
"""bfloat16: a completion's log-prob differs by up to half a nat between two ways to batch it, times a beta of 0.1."""
NORM_TOLERANCE = 0.1
"""Relative, of the gradient norm."""
STEP_HEADER = (
    "model",
    "weights trained",
    "prompt:completion",
    "arm",
    "checkpointing",
    "pairs/s",
    "times TRL",
    "loss",
    "gradient norm",
    "TFLOP/s",
    "of the matrix ceiling",
    "allocated GiB",
    "reserved GiB",
)
Row = dict[str, Any]


def render(rows: Sequence[Row]) -> tuple[str, bool]:
    """(markdown, whether everything was run and is as it must be)."""
    sections = (_machine, _parts, _steps, _recipes, _teachers)
    text = "\n\n".join(filter(None, ("\n".join(section(rows)) for section in sections)))
    has_ended = any(row["kind"] == "part" for row in rows)
    return text + "\n", has_ended and not any(_is_wrong(row, rows) for row in rows)


def _is_wrong(row: Row, rows: Sequence[Row]) -> bool:
    if row["kind"] == "part":
        return row["ended"] != "done"
    return bool(row.get("wrong")) or (row["kind"] == "step" and not speed_up(row, rows)[1])


def _machine(rows: Sequence[Row]) -> Iterator[str]:
    lines = [
        ", ".join(f"{name} {value}" for name, value in row.items() if name not in ("kind", "part") and value)
        for row in _of("machine", rows)
    ]
    yield from dict.fromkeys(lines)  # each part that makes a model says it


def _parts(rows: Sequence[Row]) -> Iterator[str]:
    """One line for each part; of `align verify` how many checks passed, and the kernel that ran."""
    yield from _header("part", "outcome", "seconds", "what it said")
    for row in _of("part", rows):
        yield _line(row["part"], row["ended"], f"{row['seconds']:.0f}", _gist(row).replace("|", "/"))


def _gist(row: Row) -> str:
    said = row["said"]
    told = [line for line in said if line.startswith(("varlen:", "FAILED", "verify: all"))]
    return "; ".join(told if told or row["ended"] == "done" else said[-3:])


def _steps(rows: Sequence[Row]) -> Iterator[str]:
    found = _of("step", rows)
    if not found:
        return
    yield f"ceiling of a bfloat16 matrix product: {max(row['ceiling'] for row in found) / 1e12:.1f} TFLOP/s"
    yield ""
    yield from _header(*STEP_HEADER)
    for row in found:
        yield _line(*_step_cells(row, speed_up(row, rows)[0]))
    yield ""
    for row in found:
        if row.get("auto"):
            yield f"`forward: auto` there, Qwen2.5-{row['size']} shape, {row['shape']}: {row['auto']}  "


def _step_cells(row: Row, ratio: str) -> list[str]:
    arm = f"ours: {row['forward']}" if row["arm"] == "ours" else "TRL, best settings"
    first = [f"Qwen2.5-{row['size']} shape", row["tune"], f"{row['shape']} × {row['pairs']}", arm]
    if "seconds" not in row:
        return [*first, row["not_measured"], *[""] * (len(STEP_HEADER) - 5)]
    speed = row["operations"] / row["seconds"]
    return [
        *first,
        "on" if row["checkpointing"] else "off",
        f"{row['pairs_per_second']:.2f}",
        ratio,
        f"{row['loss']:.4f}",
        f"{row['gradient_norm']:.4g}",
        f"{speed / 1e12:.1f}",
        f"{speed / row['ceiling']:.0%}",
        *("" if size is None else f"{size / 2**30:.1f}" for size in (row["peak_bytes"], row["reserved_bytes"])),
    ]


def speed_up(row: Row, rows: Sequence[Row]) -> tuple[str, bool]:
    """(cell, whether the losses agree); no ratio is given where they do not."""
    twins = [each for each in _of("step", rows) if each["arm"] == "TRL" and each["part"] == row["part"]]
    if row["arm"] == "TRL" or "seconds" not in row or not twins or "seconds" not in twins[0]:
        return "", True
    if not is_same(row, twins[0]):
        return "losses differ", False
    return f"{twins[0]['seconds'] / row['seconds']:.2f}", True


def is_same(row: Row, other: Row) -> bool:
    return (
        abs(row["loss"] - other["loss"]) <= LOSS_TOLERANCE
        and abs(row["gradient_norm"] - other["gradient_norm"]) <= NORM_TOLERANCE * other["gradient_norm"]
    )


def _recipes(rows: Sequence[Row]) -> Iterator[str]:
    found = _of("zero", rows)
    if found:
        yield from _header("ten steps of DPO", "in force", "first and last loss", "largest difference", "outcome")
    for row in found:
        ends = " → ".join(f"{row['losses'][at]:.5f}" for at in (0, -1)) if row["losses"] else ""
        different = f"{row['largest_difference']:.2g} (allowed {row['tolerance']:g})"
        yield _line(row["name"], row["in_force"], ends, different, row["wrong"] or "equal")
    for row in _of("grpo", rows):
        yield ""
        yield f"Three steps of GRPO: {row['wrong'] or 'finite'}; {json.dumps(row['steps'])}"


def _teachers(rows: Sequence[Row]) -> Iterator[str]:
    found = _of("teacher", rows)
    if found:
        yield from _header("greedy answers", "local teacher, tokens/s", "`generate`, tokens/s", "equal answers")
    for row in found:
        asked = f"{row['batch']} × {row['tokens']} tokens, {row['dtype']}"
        yield _line(asked, f"{row['ours']:.0f}", f"{row['generate']:.0f}", f"{row['equal_answers']} of {row['batch']}")


def _of(kind: str, rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["kind"] == kind]


def _header(*names: str) -> Iterator[str]:
    yield _line(*names)
    yield f"|{'---|' * len(names)}"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def main(path: Path) -> int:
    text, is_right = render([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])
    print(text, end="")
    return 0 if is_right else 1


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))

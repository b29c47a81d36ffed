"""Launching: starts recipes as users do, in processes of their own, on a CPU."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
LORA = "lora={r: 4, lora_alpha: 8, target_modules: all-linear}"


def environment() -> dict[str, str]:
    """One thread a process, no GPU, and the launcher's own `python`."""
    return {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "DS_ACCELERATOR": "cpu",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def command(launcher: str, recipe: str, words: Sequence[str], port: int | None = None) -> list[str]:
    """The command line of two processes under `deepspeed` or `torchrun`, or of plain Python."""
    port = port or free_port()
    module = recipe if "." in recipe else f"align.recipes.{recipe}"
    if launcher == "deepspeed":
        start = ["deepspeed", "--num_accelerators", "2", "--master_port", str(port), "--module", module]
    elif launcher == "torchrun":
        start = ["torchrun", "--nproc_per_node", "2", "--master_port", str(port), "-m", module]
    else:
        start = [sys.executable, "-m", module]
    return [start[0] if launcher == "python" else str(BIN / start[0]), *start[1:], *words]


def launch(
    launcher: str, recipe: str, words: Sequence[str], port: int | None = None, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run to the end, in `folder` if one is given; stdout and stderr together."""
    return subprocess.run(
        command(launcher, recipe, words, port),
        env=environment(),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=560,
        check=False,
    )


def metrics(folder: str | Path) -> list[dict[str, Any]]:
    """The steps of `metrics.jsonl`, the last attempt at each, in order."""
    rows = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return list({row["step"]: row for row in rows if "loss" in row}.values())

"""Small disk: runs a recipe on a file system that fills up at a chosen moment, and again after space is freed.

unshare -rm python -m tests.recipes.small_disk MOMENT BYTES_LEFT FOLDER key=value …   (output_dir must lie in FOLDER)
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from align.recipes.dpo import DPORecipe

SIZE = 100 * 2**20

MOMENTS: dict[str, Callable[[str, tuple[Any, ...]], bool]] = {
    "before the start": lambda event, args: True,
    "after a checkpoint": lambda event, args: event == "os.rename" and str(args[1]).endswith("/manifest.json"),
    "while saving": lambda event, args: event == "os.mkdir" and str(args[0]).endswith("/checkpoint-4"),
    "while saving the model": lambda event, args: event == "os.mkdir" and str(args[0]).endswith("/.model"),
    "while logging": lambda event, args: (
        event == "open" and str(args[0]).endswith("/metrics.jsonl") and Path(str(args[0])).exists()
    ),
}
"""When the disk fills up, as Python's audit events tell it."""


def main(moment: str, bytes_left: int, folder: Path, words: list[str]) -> None:
    """Prints one line of JSON: what the folder held after the first run, and both exit codes."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(folder)], check=True)
    filler = folder / "filler"
    is_filled = moment == "before the start"

    def see(event: str, args: tuple[Any, ...]) -> None:
        nonlocal is_filled
        if not is_filled and event in ("open", "os.mkdir", "os.rename") and _happens(moment, event, args):
            is_filled = True
            _fill(filler, bytes_left)

    run = folder / "run"
    if is_filled:
        run.mkdir()
        _fill(filler, bytes_left)
    else:
        sys.addaudithook(see)
    first = DPORecipe.main(words)
    free = shutil.disk_usage(folder).free
    folders = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_dir())
    exit_file = run / "exit.json"
    found = {
        "code": first,
        "exit": json.loads(exit_file.read_text()) if exit_file.exists() else None,
        "free": free,
        "folders": folders,
        "drafts": [path.name for path in run.rglob(".*")],
        "metrics": (run / "metrics.jsonl").read_text() if (run / "metrics.jsonl").exists() else "",
    }
    filler.unlink()
    found["again"] = DPORecipe.main(words)
    found["result"] = json.loads((run / "result.json").read_text())
    print("FOUND " + json.dumps(found))


def _happens(moment: str, event: str, args: tuple[Any, ...]) -> bool:
    return MOMENTS[moment](event, args)


def _fill(filler: Path, bytes_left: int) -> None:
    with filler.open("wb") as file:
        num_bytes = shutil.disk_usage(filler.parent).free - bytes_left
        os.posix_fallocate(file.fileno(), 0, num_bytes)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])

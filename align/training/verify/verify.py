"""Verify: proves on this machine, with its versions and a model, that losses and the tree are right.

The name is public, so nothing heavy is loaded before the call.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from align.models.resolve import EMBEDDED

if TYPE_CHECKING:
    from align.training.verify.finding import Verification
    from align.tree.attention import Route


def verify(
    model: str = EMBEDDED,
    compute: Literal["float32", "bfloat16"] = "bfloat16",
    *,
    routes: Mapping[str, Route] | None = None,
    fault: Route | None = None,
    records: Path | None = None,
) -> Verification:
    """Run every check, print a line for each, and record that all passed.

    From then on this process multiplies float32 matrices as float32, and not as TF32.

    Args:
        model: any name that a recipe takes.
        compute: arithmetic of the runs to come; float32 is checked with either.
        routes: in place of those that this machine can run.
        fault: what the comparison of routes must find fault with; None: completions that see each other.
        records: folder of the records; None: in the user's cache.

    Raises:
        RefusedError: a check failed; all have printed.
        ConfigError: there is no such model or arithmetic.
    """
    from align.training.verify.run import run_checks

    return run_checks(model, compute, routes, fault, records)

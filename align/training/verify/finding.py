"""Finding: what one check of `align verify` compared, how far it was off, and how far it may be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from align.training.step.verified import Machine


@dataclass(frozen=True)
class Finding:
    """The outcome of one check; its text is the line to print."""

    name: str
    compared: str
    """What was held against what."""
    found: float
    """The largest difference; NaN fails."""
    allowed: float
    """The largest that passes, in the same unit."""
    unit: str = ""
    must_exceed: bool = False
    """For a planted fault: `found` must lie above `allowed`, or the comparison is blind."""

    @property
    def is_ok(self) -> bool:
        return self.found > self.allowed if self.must_exceed else self.found <= self.allowed

    def __str__(self) -> str:
        bound = "must be above" if self.must_exceed else "allowed"
        unit = f" {self.unit}" if self.unit else ""
        verdict = "ok" if self.is_ok else "FAILED"
        return f"{verdict:<6}  {self.name}: {self.compared}: {self.found:.2g}{unit} ({bound} {self.allowed:.2g})"


@dataclass(frozen=True)
class Verification:
    """What `align verify` found; it failed nowhere."""

    model: str
    machine: Machine
    compute: str
    findings: tuple[Finding, ...]
    unfit: str | None
    """Why the tree does not fit the model, whose padded rows alone were verified; None where it fits."""
    varlen: str
    """The varlen kernel that ran, or why none did."""
    seconds: float
    record: Path | None
    """None without a tree, which needs no record."""

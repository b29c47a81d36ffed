"""Patch: one reason to reach into other libraries, and every name that this takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Patch:
    """Names are texts, so that the table stands below all layers and loads nothing."""

    how: Literal["replaced", "overridden", "called", "read", "set"]
    """`replaced` on one object, `overridden` in a subclass, `called` or `read` though private or inside a library,
    `set` for the whole process."""
    what: Mapping[str, str | None]
    """Dotted name → its parameters as we know them; None where only the name matters. A variable of the environment
    stands under the module that reads it."""
    where: tuple[str, ...]
    """Our modules that do it."""
    why: str
    until: str
    """What must change there for this to go; never, where it is a choice of ours."""

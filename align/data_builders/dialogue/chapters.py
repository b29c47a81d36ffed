"""Chapters: which are kept away from training."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from align.errors import ConfigError
from align.settings.base import did_you_mean


def chosen_chapters(
    titles: Sequence[str], with_lines: Sequence[str], wanted: Sequence[str] | float, seed: int
) -> set[str]:
    """The titles to hold out, by name or as a share that is rounded up.

    Args:
        titles: of all chapters.
        with_lines: of those that have something to learn; a share is of these.

    Raises:
        ConfigError: when a name is none of the titles, or no chapter is left to train on.
    """
    known, useful = list(dict.fromkeys(titles)), list(dict.fromkeys(with_lines))
    if isinstance(wanted, float):
        held_out = set(random.Random(seed).sample(sorted(useful), math.ceil(wanted * len(useful))))
    else:
        if unknown := [name for name in wanted if name not in known]:
            hint = did_you_mean(unknown[0], known)
            raise ConfigError(f"heldout_chapters: {unknown[0]!r} is not a chapter; there are {', '.join(known)}{hint}")
        held_out, useful = set(wanted), known
    if useful and held_out >= set(useful):
        text = f"heldout_chapters: must leave a chapter to train on, but holds out all {len(useful)}"
        raise ConfigError(f"{text} ({', '.join(useful)}); chapter_heading says which lines open a chapter")
    return held_out

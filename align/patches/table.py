"""The table of all patches: the first place to look when a library was updated.

`tests/patches` compares it with the installed libraries, and fails on a patch in the code that is not named here.
"""

from __future__ import annotations

from align.patches.models import MODELS
from align.patches.patch import Patch
from align.patches.processes import PROCESSES
from align.patches.trainers import TRAINERS

PATCHES: tuple[Patch, ...] = (*TRAINERS, *MODELS, *PROCESSES)

"""Compare settings: what `align compare` needs to know besides the run itself."""

from __future__ import annotations

from pydantic import Field

from align.settings.base import Settings
from align.settings.dotted import UseSettings


class CompareSettings(Settings):
    """How a run is shown to have helped, or not."""

    dataset: str
    """Folder that a builder wrote: its held-out prompts, and the good instruction for the ceiling."""
    sft: str | None = None
    """Folder of a finished SFT run from the same model on the same chosen tokens; without it nothing is said to have
    helped. Another run is compared all the same, under its own name."""
    check: UseSettings
    """Reward between 0 and 1 that says whether an answer shows the skill."""
    samples: int = Field(default=2, ge=1)
    """Answers drawn for each held-out prompt."""
    temperature: float = Field(default=0.7, ge=0)
    """Of the answers; 0 means greedy."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Nucleus sampling of the answers; 1 keeps the whole distribution."""
    max_tokens: int = Field(default=96, ge=1)
    """Tokens after which an answer is cut off."""
    seed: int = 0
    """Another seed draws other answers."""
    batch_size: int = Field(default=64, ge=1)
    """Rows that are decoded together."""

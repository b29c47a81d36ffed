"""Teacher settings: a teacher as a YAML section, and the object it stands for."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from align.config import Settings
from align.teachers.base import Sampling, Teacher


class SamplingSettings(Settings):
    """How completions are drawn."""

    temperature: float = Field(default=0.7, ge=0)
    """0 means greedy."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus sampling; 1 keeps the whole distribution."""
    max_tokens: int = Field(default=256, ge=1)
    """Tokens after which an answer is cut off."""
    seed: int = 0
    """Another seed draws other answers."""

    def make(self) -> Sampling:
        """The sampling that teachers take."""
        return Sampling(**self.model_dump())


class TeacherSettings(Settings):
    """A model in this process that answers prompts."""

    model: str
    """Hub name, folder, run folder, `.gguf` file, `modelscope:org/name` or `embedded:smollm2-135m`."""
    compute: Literal["bfloat16", "float32"] = "bfloat16"
    """Arithmetic. In float32 an answer does not depend on which other prompts are in the batch."""
    batch_size: int = Field(default=64, ge=1)
    """Rows that are decoded together."""

    def make(self) -> Teacher:
        """Load the model. Takes seconds; call `aclose` on the result when done."""
        from align.teachers.local import LocalTeacher

        return LocalTeacher(self.model, dtype=self.compute, batch_size=self.batch_size)

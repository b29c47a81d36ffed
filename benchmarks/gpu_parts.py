"""GPU parts: what GPU acceptance runs, the most valuable first, each a command with the time that it may take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
TINY = {"SmolLM2-135M": "tiny-llama"}
"""Shape → what stands for it in a dry run; `tiny` for Qwen2.5's."""


@dataclass(frozen=True)
class Part:
    """One command."""

    name: str
    words: tuple[str, ...]
    """Behind the name of Python."""
    limit: float
    """Seconds after which it is ended."""
    need: float
    """Seconds that must be left to begin it."""


@dataclass(frozen=True)
class Plan:
    """How the parts are run."""

    work: Path
    """Folder for models and runs."""
    tokenizer: Path | None = None
    """Folder of a real tokenizer; None: one of bytes."""
    is_dry: bool = False
    """Tiny shapes, on a CPU."""
    slack: float = 1.0
    """Factor of all limits: a machine without a GPU is slower, and an hour is longer."""

    def folder(self, size: str) -> Path:
        """Of a random model."""
        return self.work / f"random-{size}"

    def part(self, name: str, need: float, limit: float, *words: str | Path) -> Part:
        return Part(name, tuple(map(str, words)), limit * self.slack, need)

    def model(self, size: str) -> Part:
        given = [] if self.tokenizer is None else ["--tokenizer", self.tokenizer]
        shape = TINY.get(size, "tiny") if self.is_dry else size
        words = [FOLDER / "gpu_model.py", self.folder(size), "--size", shape, *given]
        return self.part(f"model {size}", 15, 90, *words, *([] if self.is_dry else ["--needs-gpu"]))

    def verify(self, model: str | Path, name: str, compute: str) -> Part:
        words = ("-m", "align.cli", "verify", model, "--compute", compute)
        return self.part(f"verify {name} {compute}", 20, 120, *words)

    def step(self, size: str, tune: str, shape: str) -> Part:
        name = f"step {size} {tune} {shape}"
        shape = ":".join(str(int(each) // 16) for each in shape.split(":")) if self.is_dry else shape
        words = ("--size", "tiny" if self.is_dry else size, "--tune", tune, "--shape", shape, "--pairs", "4")
        return self.part(name, 20, 90, FOLDER / "gpu_step.py", *words)

    def dpo(self, stage: int | None) -> Part:
        """Ten steps; in a dry run two processes under the launcher, for one GPU is one process."""
        under = [] if stage is None else ["--stage", str(stage)]
        under += ["--processes", "2", "--backend", "gloo"] if self.is_dry else []
        name = f"recipe dpo {'alone' if stage is None else f'ZeRO {stage}'}"
        words = ("dpo", "--model", self.folder("SmolLM2-135M"), "--work", self.work / "recipes", *under)
        return self.part(name, 20, 90, FOLDER / "gpu_recipes.py", *words)

    def grpo(self) -> Part:
        words = ("grpo", "--model", self.folder("0.5B"), "--work", self.work / "grpo")
        return self.part(
            "recipe grpo", 20, 90, FOLDER / "gpu_recipes.py", *words, "--tokens", "8" if self.is_dry else "64"
        )

    def teacher(self) -> Part:
        words = ["--model", self.folder("0.5B")]
        words += ["--batch", "4", "--tokens", "6"] if self.is_dry else []
        return self.part("teacher", 20, 90, FOLDER / "gpu_teacher.py", *words)


def quick(plan: Plan) -> Iterator[Part]:
    """Seven minutes."""
    yield plan.model("SmolLM2-135M")
    yield plan.verify(plan.folder("SmolLM2-135M"), "SmolLM2-135M", "bfloat16")
    yield plan.model("0.5B")
    yield plan.verify(plan.folder("0.5B"), "0.5B", "bfloat16")
    yield plan.step("0.5B", "lora", "1024:256")
    yield from map(plan.dpo, (None, 2, 3))
    yield plan.verify(plan.folder("SmolLM2-135M"), "SmolLM2-135M", "float32")
    yield plan.verify(plan.folder("0.5B"), "0.5B", "float32")
    yield plan.grpo()
    yield plan.teacher()
    yield plan.step("0.5B", "full", "1024:256")
    yield plan.step("1.5B", "lora", "1024:256")
    yield plan.step("0.5B", "lora", "512:512")
    yield plan.step("1.5B", "full", "1024:256")
    yield plan.step("1.5B", "lora", "512:512")
    yield plan.step("0.5B", "full", "512:512")
    yield plan.step("1.5B", "full", "512:512")


def full(plan: Plan, model: str) -> Iterator[Part]:
    """About an hour: a model of the user's is verified too, and steps are timed up to 7B."""
    yield from (part for part in quick(plan) if not part.name.startswith("step"))
    for compute in ("bfloat16", "float32"):
        yield plan.verify(model, model, compute)
    for size in ("0.5B", "1.5B", "7B"):
        for tune in ("lora", "full"):
            for shape in ("1024:256", "512:512", "256:1024"):
                yield plan.step(size, tune, shape)

"""Baseline: the run that `compare.sft` names, called by what it is, and what keeps it from being a control.

A lead over SFT shows more than imitation only where SFT imitated the same answers: the same file, as many rows and
chosen tokens of it, from the same model. All of that stands in the records of both runs; whatever cannot be read there
counts as different.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from align.errors import ConfigError
from align.store.records import read_json

_SFT = ("SFTRecipe", "align.recipes.sft.SFTRecipe")


@dataclass(frozen=True)
class Baseline:
    """A run that another one is measured against, beside base."""

    name: str
    """Of its arm."""
    flaws: list[str] = field(default_factory=list)
    """Why a lead over it may be imitation all the same, or another start; empty for an SFT run on the same tokens."""

    @property
    def shortcoming(self) -> str:
        """What its flaws, of which there must be some, keep it from showing."""
        return f"a lead over {self.name} would not show that more than imitation helped: {'; '.join(self.flaws)}"


@dataclass(frozen=True)
class TrainedRun:
    """What a finished run recorded about itself."""

    folder: Path
    recipe: str
    """Name of the class that made it: `SFTRecipe`, or a user's own."""
    identity: dict[str, Any]
    result: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> TrainedRun:
        """Read `run.json` and `result.json`.

        Raises:
            ConfigError: when the run is not finished.
        """
        ended = read_json(folder / "exit.json")
        if ended.get("code") != 0:
            state = f"ended with exit code {ended['code']}" if ended else "has no exit.json"
            raise ConfigError(f"{folder}: must be the folder of a finished run, but {state}; train it first")
        identity = read_json(folder / "run.json")["identity_of"]
        return cls(folder, identity["recipe"], identity, read_json(folder / "result.json"))

    @property
    def method(self) -> str:
        """`DPO` for `DPORecipe`."""
        name = self.recipe.rpartition(".")[2]
        return name.removesuffix("Recipe") or name

    @property
    def is_sft(self) -> bool:
        """Whether it imitated and did nothing else. Of a user's own class that is not known, whatever its name."""
        return self.recipe in _SFT

    @property
    def learned_tokens(self) -> int | None:
        """Chosen tokens seen; None for a method that learns from no chosen side."""
        return self.result.get("learned_tokens_seen")


def arm_names(runs: Sequence[TrainedRun], taken: Sequence[str]) -> list[str]:
    """A name for each run: its method, with its folder where methods are alike. No two arms have one name.

    Raises:
        ConfigError: when two of them are the same run.
    """
    if len({run.folder.resolve() for run in runs}) < len(runs):
        raise ConfigError(
            f"compare.sft: must be the folder of another run, but {runs[-1].folder} is the run itself; name a run of "
            "`align train sft`, or leave it out"
        )
    names = [run.method for run in runs]
    for folders in ([run.folder.name for run in runs], [str(run.folder) for run in runs]):
        if len({*names, *taken}) == len(names) + len(taken):
            break
        names = [f"{run.method} {folder}" for run, folder in zip(runs, folders, strict=True)]
    return names


def flaws(run: TrainedRun, baseline: TrainedRun) -> list[str]:
    """Why a lead of `run` over `baseline` would not show more than imitation of the same answers; empty if it would."""
    if not baseline.is_sft:
        return [
            f"its recipe is {baseline.recipe}, which is not known to imitate only; name a run of `align train sft` in "
            "compare.sft"
        ]
    if run.is_sft:
        return ["the run that is judged imitates, too"]
    if run.learned_tokens is None:
        return ["the run that is judged learned from no chosen tokens"]
    return [*_best_checkpoints(run, baseline), *_differences(run, baseline)]


def _best_checkpoints(run: TrainedRun, baseline: TrainedRun) -> Iterator[str]:
    """A model of an earlier step than the last learned from fewer tokens than its run counted."""
    for one, whose in ((baseline, "its model"), (run, "the model that is judged")):
        if one.identity["settings"].get("trainer", {}).get("load_best_model_at_end"):
            yield f"{whose} is its run's best checkpoint, of a step that saw another number of tokens than the last"


def _differences(run: TrainedRun, baseline: TrainedRun) -> Iterator[str]:
    """What the baseline learned from, where it is not what the run did."""
    ours, theirs = run.identity, baseline.identity
    data, other = ours["data"].get("train"), theirs["data"].get("train")
    if not data or data != other:
        yield f"it was trained on {_file(theirs, other)}, not on {_file(ours, data)}"
    for part, what in (("model", "model"), ("tokenizer", "tokenizer"), ("template", "chat template")):
        if not ours.get(part) or ours[part] != theirs.get(part):
            names = f" ({theirs['settings']['model']}, not {ours['settings']['model']})" if part == "model" else ""
            yield f"it started from another {what}{names}"
    for name, said in (("rows", "had {} rows to learn from"), ("learned_tokens_seen", "learned {} chosen tokens")):
        number, expected = baseline.result.get(name), run.result.get(name)
        if number is None or number != expected:
            yield f"it {said.format(_number(number))}, not {_number(expected)}"


def _file(identity: dict[str, Any], fingerprint: str | None) -> str:
    return f"{identity['settings']['train_data']} (sha256 {(fingerprint or 'unknown')[:12]})"


def _number(value: int | None) -> str:
    return "an unknown number of" if value is None else f"{value:,}"

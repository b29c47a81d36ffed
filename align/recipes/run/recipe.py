"""What a run asks of a recipe; `align.recipes.base` has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from transformers import Trainer

    from align.data.files.rows import RowFile
    from align.models.resolve import ResolvedModel
    from align.recipes.settings.common import RecipeSettings
    from align.training.loop.ranks import Ranks
    from align.training.rows.check import TokenReport


class RunnableRecipe(Protocol):
    """One training run; `join` comes before everything that needs `ranks`, `prepare` before `tokens`."""

    sides: ClassVar[tuple[str, ...]]
    ranks: Ranks
    tokens: dict[str, TokenReport]

    @property
    def settings(self) -> RecipeSettings: ...
    @property
    def rows(self) -> Mapping[str, RowFile[Any]]: ...
    @property
    def model(self) -> ResolvedModel: ...
    @property
    def model_files(self) -> dict[str, str | None]: ...

    def join(self) -> None: ...
    def identity(self) -> dict[str, Any]: ...
    def prepare(self) -> Trainer: ...
    def check(self, trainer: Trainer) -> dict[str, Any]: ...
    def check_resumed(self, trainer: Trainer, findings: dict[str, Any]) -> None: ...
    def probe_rows(self) -> list[list[int]]: ...
    def after_training(self, trainer: Trainer, findings: dict[str, Any]) -> dict[str, Any]: ...
    def may_save(self, trainer: Trainer) -> bool: ...

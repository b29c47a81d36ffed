"""Prices: what a call costs, and what it could cost at worst, from a table that users edit (`prices.yaml`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from align.errors import ConfigError
from align.settings.base import Settings
from align.settings.yaml import read_yaml
from align.teachers.ledger.budget import UNITS

SHIPPED = Path(__file__).with_name("prices.yaml")
_PER_TOKEN = UNITS // 1_000_000
"""Billionths of a currency that a token costs at a price of 1 per million tokens."""


class Price(Settings):
    """What a million tokens of one model cost."""

    currency: str = Field(pattern="^[A-Z]{3}$")
    """Three letters, such as CNY or USD."""
    input: float = Field(ge=0)
    """Prompt tokens."""
    cached: float | None = Field(default=None, ge=0)
    """Prompt tokens that the provider had in its cache; None: like any other."""
    output: float = Field(ge=0)
    """Completion tokens, reasoning included."""

    def cost(self, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> int:
        """In billionths of the currency, rounded up."""
        cached = self.input if self.cached is None else self.cached
        fresh_tokens = max(0, prompt_tokens - cached_tokens)
        total = fresh_tokens * self.input + cached_tokens * cached + completion_tokens * self.output
        return math.ceil(total * _PER_TOKEN - 1e-6)  # what floating point adds is not rounded up

    def worst_case(self, most_prompt_tokens: int, max_tokens: int) -> int:
        """The most that a call can cost, nothing cached."""
        return self.cost(0, 0, max_tokens) + math.ceil(
            most_prompt_tokens * max(self.input, self.cached or 0) * _PER_TOKEN
        )


def read_prices(path: str | Path = SHIPPED) -> dict[tuple[str, str], Price]:
    """(provider, model) → price.

    Raises:
        ConfigError: one message with every mistake, each as `file:line: …`.
    """
    file = read_yaml(str(path))
    found: dict[tuple[str, str], Price] = {}
    mistakes = [f"{where}: {text}" for where, text in file.mistakes]
    for provider, models in file.data.items():
        if not isinstance(models, Mapping):
            mistakes.append(f"{file.where((provider,))}: {provider} must list models with their prices, is {models!r}")
            continue
        for model, entry in models.items():
            try:
                found[str(provider), str(model)] = Price.model_validate(entry)
            except ValidationError as error:
                mistakes += [_explain(file.where((provider, model)), model, detail) for detail in error.errors()]
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return found


def _explain(where: str, model: str, detail: Any) -> str:
    name = ".".join(map(str, (model, *detail["loc"])))
    return f"{where}: {name}: {detail['msg'].lower()}, is {detail['input']!r}"

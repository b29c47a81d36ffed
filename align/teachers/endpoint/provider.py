"""Provider: where an endpoint teacher stands, with which key, at which price, and how it wants to be asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from align.errors import ConfigError
from align.store.redact import REDACTED
from align.teachers.endpoint.presets import ANY, Preset
from align.teachers.ledger.budget import Budget
from align.teachers.ledger.prices import Price


class Key:
    """An API key that does not show itself when it is printed."""

    def __init__(self, value: str) -> None:
        self._value = value.strip()

    def __repr__(self) -> str:
        return REDACTED

    def reveal(self) -> str:
        return self._value


@dataclass(frozen=True, slots=True)
class Place:
    """Where a teacher stands and how it wants to be asked."""

    name: str
    """The teacher's declared name: with the model it is what answers are recorded under."""
    model: str
    urls: tuple[str, ...]
    """Base URLs of equal endpoints, such as `https://api.deepseek.com`."""
    preset: Preset = ANY
    key: Key | None = None
    price: Price | None = None
    """None: not known, so no budget can hold."""
    thinking: bool | None = None
    """Whether the model thinks before it answers; None: as the preset has it."""
    same_teacher: bool = False
    """Confirms that changed URLs lead to the same model."""


def price_of(place: Place, budget: Budget) -> Price | None:
    """None: calls are free, or there is no price and no limit that needs one."""
    if place.preset.is_free:
        return None
    if place.price is not None:
        budget.pay_in(place.price.currency)
    elif budget.limit is not None:
        raise ConfigError(
            f"budget: needs the price of {place.model}, which prices.yaml does not have; add it to a copy of "
            "that file and name the copy with prices="
        )
    return place.price


def thinking_of(place: Place) -> Mapping[str, Any]:
    wanted = place.preset.thinks_by_default if place.thinking is None else place.thinking
    if wanted is None:
        return {}
    if wanted not in place.preset.thinking:
        can = f"only be {'true' if not wanted else 'false'} here" if place.preset.thinking else "not be switched here"
        raise ConfigError(f"thinking: can {can}; leave it out, or choose a model that does what you want")
    return place.preset.thinking[wanted]


def json_format(preset: Preset, schema: Mapping[str, Any] | None) -> dict[str, Any]:
    if schema is None:
        return {}
    if preset.json_mode == "json_object":
        return {"response_format": {"type": "json_object"}}
    named = {"name": "answer", "strict": True, "schema": dict(schema)}
    return {"response_format": {"type": "json_schema", "json_schema": named}}

"""Teacher settings: a teacher as a YAML section, and the object it stands for."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from align.errors import ConfigError
from align.settings.base import Settings, did_you_mean
from align.teachers.base import Sampling, Teacher
from align.teachers.endpoint.presets import ANY, PRESETS, Preset
from align.teachers.endpoint.provider import Key, Place
from align.teachers.ledger.prices import SHIPPED, read_prices

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on

    from align.teachers.ledger.ledger import Ledger

_LOCAL_ONLY = ("compute", "batch_size")
_ENDPOINT_ONLY = ("name", "api_key_env", "concurrency", "requests_per_second", "thinking", "prices", "same_teacher")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_LOOKS_LIKE_A_KEY = re.compile(r"^(sk|hf|gsk|xai|key|api)[-_](?=.*\d)", re.IGNORECASE)


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
    """A model that answers prompts: in this process, or behind an OpenAI-compatible API."""

    model: str
    """Local: hub name, folder, run folder, `.gguf` file, `modelscope:org/name` or `embedded:smollm2-135m`. At an
    endpoint: the name that the server knows."""
    compute: Literal["bfloat16", "float32"] = "bfloat16"
    """Local arithmetic. In float32 an answer does not depend on which other prompts are in the batch."""
    batch_size: int = Field(default=64, ge=1)
    """Local rows that are decoded together."""
    endpoint: str | None = None
    """A provider: deepseek, qwen, siliconflow, openai, vllm or ollama."""
    base_url: str | list[str] | None = None
    """URL of an OpenAI-compatible server, up to `/v1`, or several that serve the same model."""
    name: str | None = None
    """What its answers are recorded under; default: the endpoint, or host and port of the first URL."""
    api_key_env: str | None = None
    """Environment variable that holds the key; default: the provider's usual one."""
    concurrency: int = Field(default=32, ge=1)
    """Most requests at once to each URL; fewer when the server refuses."""
    requests_per_second: float | None = Field(default=None, gt=0)
    """Most requests per second to each URL; fewer when the server refuses."""
    thinking: bool | None = None
    """Whether a model that can do both thinks before it answers; default: not, where that can be said."""
    prices: str | None = None
    """Your copy of `prices.yaml`."""
    same_teacher: bool = False
    """Confirms that changed URLs lead to the same model, so that its recorded answers stay valid."""

    @property
    def is_endpoint(self) -> bool:
        """Whether it is asked over the network."""
        return self.endpoint is not None or self.base_url is not None

    @property
    def answers_as(self) -> str:
        """The name that an endpoint's answers are recorded under."""
        return self.name or self.endpoint or urlsplit(self._urls[0]).netloc

    @property
    def _urls(self) -> list[str]:
        preset = PRESETS[self.endpoint] if self.endpoint else ANY
        return [self.base_url] if isinstance(self.base_url, str) else self.base_url or [preset.base_url or ""]

    @field_validator("api_key_env")
    @classmethod
    def _names_a_variable(cls, value: str | None) -> str | None:
        """The value is never quoted: it may be a key."""
        if value is not None and (not _VARIABLE.fullmatch(value) or _LOOKS_LIKE_A_KEY.match(value)):
            raise ValueError(
                "must be the name of an environment variable, such as DEEPSEEK_API_KEY; a key stays out of files"
            )
        return value

    @field_validator("endpoint")
    @classmethod
    def _is_a_preset(cls, value: str | None) -> str | None:
        if value is not None and value not in PRESETS:
            known = ", ".join(PRESETS)
            hint = did_you_mean(value, list(PRESETS))
            raise ValueError(f"must be one of {known}, is {value!r}{hint}; for another server give base_url")
        return value

    @field_validator("base_url")
    @classmethod
    def _is_a_plain_url(cls, value: str | list[str] | None) -> str | list[str] | None:
        for url in [value] if isinstance(value, str) else value or []:
            parts = urlsplit(url)
            if parts.username or parts.password or parts.query or parts.fragment:
                raise ValueError("must be a plain URL without user, key or query; keys stay in the environment")
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"must start with http:// or https:// and a host, is {url!r}")
            if parts.path.rstrip("/").endswith("/chat/completions"):
                raise ValueError(f"must end before /chat/completions, is {url!r}")
        if value == []:
            raise ValueError("must name at least one URL")
        return value

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> Self:
        """No option is accepted and then ignored."""
        mine, kind = (_LOCAL_ONLY, "an endpoint") if self.is_endpoint else (_ENDPOINT_ONLY, "a local model")
        if ignored := [name for name in mine if name in self.model_fields_set]:
            advice = "" if self.is_endpoint else "; an endpoint needs endpoint: or base_url:"
            raise ValueError(f"{', '.join(ignored)} means nothing for {kind}{advice}")
        return self

    def make(self, ledger: Ledger, json_schema: Mapping[str, Any] | None = None) -> Teacher:
        """The teacher, asked through the ledger; call `aclose` on it when done, before the ledger is closed.

        A local model is loaded at the first call that the ledger cannot answer. `json_schema` is what an endpoint is
        held to, as strictly as it can be; a local model cannot be, so whoever reads its answers checks them.

        Raises:
            ConfigError: no such model, no key in the environment, other URLs than before.
        """
        if self.is_endpoint:
            from align.teachers.endpoint.teacher import EndpointTeacher

            return EndpointTeacher(self.place(), ledger, self.concurrency, self.requests_per_second, json_schema)
        from align.teachers.ledger.recorded import RecordedTeacher
        from align.teachers.local import LocalTeacher

        local = LocalTeacher(self.model, dtype=self.compute, batch_size=self.batch_size)
        return RecordedTeacher(local, ledger, local.version)

    def place(self) -> Place:
        """Where the endpoint stands, with its key and price.

        Raises:
            ConfigError: the key is not in the environment, or the prices cannot be read.
        """
        preset = PRESETS[self.endpoint] if self.endpoint else ANY
        prices = read_prices(self.prices or SHIPPED)
        return Place(
            name=self.answers_as,
            model=self.model,
            urls=tuple(self._urls),
            preset=preset,
            key=self._key(preset),
            price=prices.get((self.endpoint or self.name or "", self.model)),
            thinking=self.thinking,
            same_teacher=self.same_teacher,
        )

    def _key(self, preset: Preset) -> Key | None:
        variable = self.api_key_env or preset.api_key_env
        if variable is None:
            return None
        value = os.environ.get(variable, "").strip()
        if not value:
            raise ConfigError(f"{variable} must hold the key of {self.endpoint or self.name}, but is not set here")
        if not value.isascii() or not value.isprintable() or " " in value:
            raise ConfigError(f"{variable} must hold a key, but has spaces or characters that no key has")
        return Key(value)

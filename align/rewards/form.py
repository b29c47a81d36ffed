"""Form rewards: whether a completion matches a pattern, or is JSON that fits a schema. No model is asked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from align.errors import ConfigError
from align.rewards.base import completion_text, refuse_without
from align.text.model_json import Fence, whole_json


class Matches:
    """1 when the pattern is found in the completion (`whole`: when it is all of it), 0 when not, None in two cases.

    A pattern such as `(a|aa)+$` can take longer than the universe on a text of a hundred letters. So the search stops
    after `timeout_s`, and a completion longer than `max_chars` is not searched. Neither has a score; both are printed
    and counted in `num_not_searched`.

    The pattern is one of the `regex` library, which reads what `re` reads, with flags inside: `(?i)yes`, `(?s)a.*b`.
    Source: https://github.com/mrabarnett/mrab-regex (its `timeout` argument).
    """

    def __init__(self, pattern: str, whole: bool = False, max_chars: int = 100_000, timeout_s: float = 1.0) -> None:
        """`timeout_s`: seconds of one search, greater than 0.

        Raises:
            ConfigError: the pattern cannot be read, or a limit is not positive.
        """
        import regex

        if not (timeout_s > 0 and max_chars > 0):
            raise ConfigError(
                f"Matches: timeout_s and max_chars must be greater than 0, are {timeout_s} and {max_chars}"
            )
        try:
            self._pattern = regex.compile(pattern)
        except regex.error as error:
            raise ConfigError(f"Matches: pattern must be a regular expression, but {pattern!r}: {error}") from error
        self._find = self._pattern.fullmatch if whole else self._pattern.search
        self.max_chars = max_chars
        self.timeout_s = timeout_s
        self.num_not_searched = 0

    def __call__(self, prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:
        """One score a completion, 0.0 or 1.0, or None."""
        return [self._score(completion_text(completion)) for completion in completions]

    def _score(self, text: str) -> float | None:
        if len(text) > self.max_chars:
            self._no_score(f"has {len(text):,} characters, more than {self.max_chars:,}")
            return None
        try:
            return float(self._find(text, timeout=self.timeout_s) is not None)
        except TimeoutError:
            self._no_score(f"took longer than {self.timeout_s:g} s")
            return None

    def _no_score(self, why: str) -> None:
        self.num_not_searched += 1
        text = f"Matches {self._pattern.pattern!r}: a completion has no score (None): it {why}; "
        print(f"{text}{self.num_not_searched} so far", file=sys.stderr, flush=True)


class JsonSchema:
    """1 when the completion is one JSON value, and nothing else, that fits the schema; else 0.

    Spaces around it are allowed; words, a second value, NaN and infinity are not JSON, and neither is the same name
    twice in an object, of which readers take different ones. With `fenced`, a completion that is one ```json block,
    and nothing else, counts too. `format` is not checked, as JSON Schema has it by default. A `$ref` leads to places
    inside the schema only; nothing is fetched.

    Source: https://json-schema.org (the draft that `$schema` names, else 2020-12).
    """

    def __init__(self, schema: dict[str, Any] | None = None, file: str | None = None, fenced: bool = False) -> None:
        """Exactly one of `schema` and `file`, the path of a JSON file that holds it.

        Raises:
            ConfigError: none or both are given, the file cannot be read, it is no JSON Schema, or the library
                jsonschema is not installed.
        """
        refuse_without("jsonschema", "JsonSchema", "verify")
        from jsonschema import Draft202012Validator, SchemaError
        from jsonschema.validators import validator_for
        from referencing import Registry

        if (schema is None) == (file is None):
            raise ConfigError("JsonSchema: exactly one of schema and file must be given")
        read = schema if file is None else _read_schema(file)
        kind = validator_for(read, default=Draft202012Validator)
        try:
            kind.check_schema(read)
        except SchemaError as error:
            raise ConfigError(f"JsonSchema: {file or 'schema'} must be a JSON Schema, but: {error.message}") from error
        self._validator = kind(read, registry=Registry())
        self._fence: Fence = "named" if fenced else "none"

    def __call__(self, prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:
        """One score a completion, 0.0 or 1.0.

        Raises:
            ConfigError: the schema refers to a place that is not inside it.
        """
        return [self._score(completion_text(completion)) for completion in completions]

    def _score(self, text: str) -> float:
        from referencing.exceptions import Unresolvable

        try:
            return float(self._validator.is_valid(whole_json(text, self._fence)))
        except (ValueError, RecursionError):  # no JSON, or nested deeper than the schema can follow
            return 0.0
        except Unresolvable as error:
            raise ConfigError(f"JsonSchema: every $ref must lead to a place inside the schema, but: {error}") from error


def _read_schema(file: str) -> Any:
    try:
        return whole_json(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"JsonSchema: file must be a JSON file, but {file}: {error}") from error

"""Settings: a YAML 1.2 file and `key=value` words become validated settings, or one error that lists every mistake.

Nothing heavy is imported here, so a wrong key is reported within a second. Sections that pass through to another
library (`trainer:`, `lora:`) are checked by name and type against the installed source (`align.settings.passthrough`).
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from align.errors import ConfigError
from align.settings.passthrough import PassThrough
from align.settings.yaml import YamlFile, parse_value, read_yaml

Location = tuple[str | int, ...]


class Settings(BaseModel):
    """Base of every group of settings: unknown names are refused, and a value must have its type as written."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    pass_through: ClassVar[Mapping[str, PassThrough]] = {}
    """Section → the class of another library that receives it unchanged."""

    @classmethod
    def mistakes(cls, raw: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
        """What breaks a rule between settings, as (location, sentence). Values may have any type at this point."""
        yield from ()


S = TypeVar("S", bound=Settings)

# Names that users of other trainers type first, and where the same thing is here.
FOREIGN_NAMES = {
    "model_name_or_path": "model",
    "dataset": "train_data",
    "eval_dataset": "eval_data",
    "lora_rank": "lora.r",
    "lora_alpha": "lora.lora_alpha",
    "lora_target": "lora.target_modules",
    "finetuning_type": "lora (leave the section out for full fine-tuning)",
    "cutoff_len": "trainer.max_length",
    "pref_beta": "trainer.beta",
    "pref_loss": "trainer.loss_type",
    "bf16": "compute: bfloat16",
    "ref_model": "reference",
}


def load_settings(settings_class: type[S], path: str | None, words: Sequence[str] = ()) -> S:
    """Read a YAML file (None: start empty), apply `key=value` words over it, and validate.

    Raises:
        ConfigError: one message with every mistake, each as `file:line: name …`.
    """
    draft = _Draft(read_yaml(path) if path is not None else YamlFile.empty(), settings_class)
    for word in words:
        draft.override(word)
    validated: S = draft.validated()
    return validated


def did_you_mean(name: str, candidates: Sequence[str]) -> str:
    """`; did you mean X?` for the closest candidate, or nothing."""
    close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


@dataclass
class _Draft:
    """Settings on their way from text to validated objects, with where each came from."""

    file: YamlFile
    settings_class: type[Settings]
    from_words: dict[Location, str] = field(default_factory=dict)
    found: list[tuple[str, str]] = field(default_factory=list)
    """(where, sentence) of each mistake."""

    def override(self, word: str) -> None:
        key, equals, text = word.partition("=")
        if not equals or not key or key.startswith("-"):
            self.found.append((f"command line: {word}", "must be key=value, for example trainer.max_steps=50"))
            return
        location = tuple(key.split("."))
        target: Any = self.file.data
        for part in location[:-1]:
            if target.get(part) is None:
                target[part] = {}
            target = target[part]
            if not isinstance(target, dict):
                self.found.append((f"command line: {word}", f"{part} is not a section; it is {target!r}"))
                return
        try:
            target[location[-1]] = parse_value(text)
        except ConfigError as error:
            self.found.append((f"command line: {word}", f"{text!r} is not a YAML value: {error}"))
            return
        self.from_words[location] = word

    def validated(self) -> Any:
        self.found = [(where, text) for where, text in self.file.mistakes] + self.found
        settings = None
        try:
            settings = self.settings_class.model_validate(self.file.data)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                self.found.append(self._explain(detail))
        for location, sentence in self._section_mistakes():
            self.found.append((self._where(location), sentence))
        if self.found:
            ordered = sorted(self.found, key=lambda mistake: self._line_number(mistake[0]))
            lines = list(dict.fromkeys(f"{where}: {text}" for where, text in ordered))
            count = f"{len(lines)} mistakes" if len(lines) > 1 else "1 mistake"
            raise ConfigError("\n".join([*lines, f"{count}; nothing was started."]))
        return settings

    def _section_mistakes(self) -> Iterator[tuple[Location, str]]:
        for section, target in self.settings_class.pass_through.items():
            values = self.file.data.get(section)
            if isinstance(values, dict):
                yield from _pass_through_mistakes(section, target, values)
        yield from self.settings_class.mistakes(self.file.data)

    def _where(self, location: Location) -> str:
        for length in range(len(location), 0, -1):
            word = self.from_words.get(location[:length])
            if word is not None:
                return f"command line: {word}"
        return self.file.where(location)

    def _line_number(self, where: str) -> int:
        number = where.removeprefix(f"{self.file.name}:")
        return int(number) if number.isdigit() else 10**9

    def _explain(self, detail: ErrorDetails) -> tuple[str, str]:
        location = tuple(detail["loc"])
        name = ".".join(map(str, location))
        where = self._where(location)
        if detail["type"] == "extra_forbidden":
            return where, f"{name} is not a setting{self._suggestion(location)}"
        if detail["type"] == "missing":
            return where, f"{name} must be given{_purpose(self.settings_class, location)}"
        sentence = detail["msg"].removeprefix("Value error, ").removeprefix("Input ").removeprefix("should ")
        if detail["type"] == "value_error":
            return where, f"{name}: {sentence}" if name else sentence
        return where, f"{name} must {_plain(sentence)}, is {detail['input']!r}{value_hint(detail['input'])}"

    def _suggestion(self, location: Location) -> str:
        name = str(location[-1])
        if len(location) > 1:
            return did_you_mean(name, _fields_at(self.settings_class, location[:-1]))
        if name in FOREIGN_NAMES:
            return f"; here it is {FOREIGN_NAMES[name]}"
        for section, target in self.settings_class.pass_through.items():
            if name in target.arguments():
                return f"; did you mean {section}.{name}?"
        return did_you_mean(name, list(self.settings_class.model_fields))


def value_hint(value: Any) -> str:
    """What a value of the wrong type was probably meant to be."""
    if isinstance(value, str) and value.lower() in ("yes", "no", "on", "off"):
        return " (a text in YAML 1.2; write true or false)"
    if isinstance(value, str) and "：" in value:
        return " (it holds a full-width colon '：'; YAML needs ': ')"
    if isinstance(value, str) and value.replace(".", "", 1).replace("e-", "").isdigit():
        return " (a text, because it is in quotes)"
    return ""


def _pass_through_mistakes(
    section: str, target: PassThrough, values: Mapping[str, Any]
) -> Iterator[tuple[Location, str]]:
    arguments = target.arguments()
    for name, value in values.items():
        if name not in arguments:
            hint = did_you_mean(str(name), list(arguments))
            yield (section, name), f"{section}.{name} is not a {target.class_name} setting{hint}"
        elif not target.accepts(name, value):
            kind = ast.unparse(arguments[name])
            hint = value_hint(value)
            yield (section, name), f"{section}.{name} must be of type {kind} ({target.class_name}), is {value!r}{hint}"


def _plain(sentence: str) -> str:
    return sentence.replace("a valid string", "a text").replace("a valid dictionary", "a section of settings")


def _purpose(settings_class: type[BaseModel], location: Location) -> str:
    owner = _class_at(settings_class, location[:-1])
    info = owner.model_fields.get(str(location[-1])) if owner else None
    return f": {info.description.splitlines()[0]}" if info and info.description else ""


def _fields_at(settings_class: type[BaseModel], location: Location) -> list[str]:
    owner = _class_at(settings_class, location)
    return list(owner.model_fields) if owner else []


def _class_at(settings_class: type[BaseModel], location: Location) -> type[BaseModel] | None:
    """The settings class that stands at a location, looking through `X | None` and `list[X]`."""
    current: type[BaseModel] | None = settings_class
    for part in location:
        info = current.model_fields.get(str(part)) if current else None
        if info is not None:
            current = _inner_model(info.annotation)
    return current


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        inner = _inner_model(part)
        if inner is not None:
            return inner
    return None

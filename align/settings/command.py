"""Command line: what every `python -m align.…` entry point shares: words, help, and the exit code.

The form is `[FILE.yaml] [key=value …]`, in any order, with a launcher's own `--local_rank` allowed anywhere.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel

from align.errors import EXIT_INTERRUPTED, EXIT_OK, STORAGE_ERRNOS, AlignError, ConfigError, StorageError
from align.settings.base import Settings, load_settings
from align.store.redact import redact

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class CommandLine:
    """Words of a command, told apart."""

    path: str | None
    """The YAML file, if one was given."""
    words: tuple[str, ...]
    """The `key=value` words in order."""
    wants_help: bool
    flags: tuple[str, ...] = ()
    """Options that the entry point knows."""


def parse_words(arguments: Sequence[str], flags: Container[str] = ()) -> CommandLine:
    """Tell the YAML file from the `key=value` words; `flags` are the options that are known.

    Raises:
        ConfigError: for an option that no entry point has, or a second file.
    """
    words: list[str] = []
    paths: list[str] = []
    given: list[str] = []
    rest = iter(arguments)
    for word in rest:
        if word in ("-h", "--help"):
            return CommandLine(None, (), wants_help=True)
        if word in ("--local_rank", "--local-rank"):
            next(rest, None)
        elif word.startswith(("--local_rank=", "--local-rank=")):
            continue
        elif word in flags:
            given.append(word)
        elif word.startswith("-"):
            raise ConfigError(
                f"{word} is not an option; settings are given as key=value, for example output_dir=runs/x"
            )
        else:
            (words if "=" in word else paths).append(word)
    if len(paths) > 1:
        raise ConfigError(f"one YAML file must be given, found {' and '.join(paths)}; settings are key=value")
    return CommandLine(paths[0] if paths else None, tuple(words), wants_help=False, flags=tuple(given))


def help_text(command: str, description: str, settings_class: type[Settings], flags: Iterable[str] = ()) -> str:
    """Usage, what it does, and every setting with its default and first sentence."""
    usage = " ".join([command, "FILE.yaml [key=value ...]", *(f"[{flag}]" for flag in flags)])
    lines = [f"usage: {usage}", "", description.strip(), "", "settings:"]
    lines += _describe(settings_class, "")
    for section, target in settings_class.pass_through.items():
        lines.append(f"  {section}.*  every argument of {target.library}'s {target.class_name}, passed on unchanged")
    return "\n".join(lines)


def exit_code_of(command: Callable[[], None]) -> int:
    """Run a command; what `align` raises on purpose becomes its message on stderr and its exit code.

    Of the processes of one run, rank 0 prints what all of them raise; an error of one rank is printed by that rank.
    """
    is_first = os.environ.get("RANK", "0") == "0"
    try:
        command()
        return EXIT_OK
    except AlignError as error:
        if is_first or not error.is_shared:
            print(f"\n{redact(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        if is_first:
            print("\ninterrupted; what was finished is kept, and the same command goes on from there", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_OK
    except OSError as error:
        if error.errno not in STORAGE_ERRNOS:
            raise
        print(f"\n{error.filename or 'storage'}: {error.strerror}; free some space and repeat", file=sys.stderr)
        return StorageError.exit_code


def entry_point(
    module: str,
    description: str,
    settings_class: type[S],
    run: Callable[[S], object],
    arguments: Sequence[str] | None,
    flags: Mapping[str, Callable[[S], object]] | None = None,
) -> int:
    """What `python -m align.…` does: read the words, print help or run, return the exit code.

    `flags` names what is run instead where an option is given.
    """
    others = flags or {}

    def command() -> None:
        line = parse_words(sys.argv[1:] if arguments is None else arguments, others)
        if line.wants_help:
            print(help_text(f"python -m {module}", description, settings_class, others))
        elif line.path is None and not line.words:
            raise ConfigError("a YAML file must be given; `align recipes list` names those that come with the package")
        else:
            settings = _load_settings(settings_class, line)
            (others[line.flags[0]] if line.flags else run)(settings)

    return exit_code_of(command)


def _load_settings(settings_class: type[S], line: CommandLine) -> S:
    """Settings are read before the processes have met, from files that those of one node share."""
    try:
        return load_settings(settings_class, line.path, line.words)
    except ConfigError as error:
        error.is_shared = os.environ.get("LOCAL_RANK", "0") != "0"
        raise


def _describe(settings_class: type[BaseModel], prefix: str) -> list[str]:
    lines = []
    for name, info in settings_class.model_fields.items():
        summary = (info.description or "").split("\n")[0]
        default = "required" if info.is_required() else f"default {info.get_default(call_default_factory=True)!r}"
        if len(default) > 40:
            default = "default: a section of its own"
        lines.append(f"  {prefix}{name}  {summary} ({default})")
    return lines

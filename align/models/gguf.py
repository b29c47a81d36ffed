"""GGUF folder: turns a GGUF file, once for each content, into a folder that every `from_pretrained` reads."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from align.errors import ConfigError, StorageError


def gguf_to_folder(file: Path) -> Path:
    """Folder in the user's cache with the file's weights as float32 safetensors, exactly as dequantised.

    The folder is named after the file and its content. It is whole or absent: a conversion is written beside it and
    renamed, so a kill leaves nothing half-made and two processes may convert at once.

    Raises:
        ConfigError: the file has no chat template, or the package `gguf` is missing.
        StorageError: the folder cannot be written.
    """
    from platformdirs import user_cache_dir

    target = Path(user_cache_dir("align")) / "models" / f"{file.stem}-{hash_files([file])[:16]}"
    if target.is_dir():
        return target
    print(f"converting {file.name} once, about 20 s, into {target}", file=sys.stderr)
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        _convert(file, draft)
        _rename_unless_there(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def hash_files(files: Sequence[Path]) -> str:
    """SHA-256 over the bytes of the files, one after the other, in hexadecimal."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def _convert(file: Path, folder: Path) -> None:
    import importlib.util

    if importlib.util.find_spec("gguf") is None:
        raise ConfigError(f"{file}: reading it needs a package that is not installed; run: pip install gguf")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    had_bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
        if not tokenizer.chat_template:
            raise ConfigError(f"{file}: must carry a chat template, but has none; take an instruct model's file")
        with contextlib.redirect_stderr(io.StringIO()):  # its bar over the tensors knows no switch
            model = AutoModelForCausalLM.from_pretrained(str(file.parent), gguf_file=file.name, dtype=torch.float32)
        # The weights are plain float32 by now, but while transformers (5.23) still counts the model as quantised it
        # refuses to save it, and it would look for a quantiser on loading.
        del model.config.quantization_config
        model.hf_quantizer = None
        _save(tokenizer, model, folder)
    finally:
        if had_bars:
            logging.enable_progress_bar()


def _save(tokenizer: object, model: object, folder: Path) -> None:
    """Raises StorageError where the disk refuses."""
    try:
        folder.mkdir(parents=True)
        model.save_pretrained(folder)  # type: ignore[attr-defined]
        tokenizer.save_pretrained(folder)  # type: ignore[attr-defined]
    except OSError as error:
        raise StorageError(f"{folder}: the converted model cannot be written: {error}; free some disk space") from error


def _rename_unless_there(draft: Path, target: Path) -> None:
    """Another process that was faster has written the same bytes, so its folder is as good."""
    try:
        os.rename(draft, target)  # noqa: PTH104 (Path.rename says the same, but os.rename is what the rule is about)
    except OSError as error:
        if not target.is_dir():
            raise StorageError(f"{target}: cannot be put in place: {error}") from error

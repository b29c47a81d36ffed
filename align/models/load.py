"""Load: the tokenizer and the weights of a resolved model, and what its configs say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from align.errors import ConfigError
from align.models.resolve import ResolvedModel, resolve

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


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

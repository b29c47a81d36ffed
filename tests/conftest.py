"""Fixtures that every test may use: a model so small that a forward costs a millisecond."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.byte_tokenizer import save_byte_tokenizer

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: two processes with two spinning threads each crawl


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on."""
    from tests.recipes import launching

    return launching.free_port()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a two-layer Llama (float32, context 1,024) with a byte-level tokenizer and a ChatML template."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    vocabulary_size = save_byte_tokenizer(folder)
    _save_tiny_llama(folder, vocabulary_size)
    return str(folder)


def _save_tiny_llama(folder: Path, vocabulary_size: int) -> None:
    """Random weights at a fixed seed; the global generator is left as it was."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.2,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)

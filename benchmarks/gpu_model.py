"""GPU model: folders of random models with a tokenizer, and rows for them, so that nothing has to be downloaded.

    python benchmarks/gpu_model.py FOLDER --size SmolLM2-135M [--tokenizer FOLDER]

`align verify` and recipes take such a folder by its name. Untrained weights as a library draws them (a deviation of
0.02) attend to all alike and give every token the same probability, so that nothing would be seen of a fault: here
scores of attention have a deviation of about one and a half and logits of about one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
    "tiny-llama": {"hidden_size": 72, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 9},
    "SmolLM2-135M": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9},
    "0.5B": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14},
    "1.5B": {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12},
    "7B": {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28},
}
"""SmolLM2's shape, and Qwen2.5's where only its billions are named; the tiny ones are for machines without a GPU."""
_COMMON = {"num_key_value_heads": 2, "vocab_size": 151_936, "tie_word_embeddings": True, "rope_theta": 1e6}
_MORE: dict[str, dict[str, Any]] = {
    "tiny": {"vocab_size": 512},
    "tiny-llama": {"vocab_size": 512, "num_key_value_heads": 3},
    "SmolLM2-135M": {"vocab_size": 49_152, "num_key_value_heads": 3, "rope_theta": 1e5},
    "7B": {"num_key_value_heads": 4, "vocab_size": 152_064, "tie_word_embeddings": False},
}
_SPREAD = 1.2
"""Deviation of what a product with a row of weights gives for inputs of deviation one."""


def config(size: str) -> Any:
    """transformers' config of a shape; nothing is downloaded."""
    from transformers import LlamaConfig, Qwen2Config

    is_llama = size in ("SmolLM2-135M", "tiny-llama")
    shape = {**_COMMON, "max_position_embeddings": 8192 if is_llama else 32_768, **SIZES[size], **_MORE.get(size, {})}
    return (LlamaConfig if is_llama else Qwen2Config)(**shape)


def save(size: str, folder: Path, tokenizer: Path | None = None) -> None:
    """A model of random weights at a fixed seed, bfloat16, with the files of a tokenizer (None: one of bytes)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tests.byte_tokenizer import save_byte_tokenizer

    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer is None:
        save_byte_tokenizer(folder)
    else:
        for file in tokenizer.iterdir():
            if file.name not in ("config.json", "generation_config.json"):
                shutil.copy(file, folder)
    words = AutoTokenizer.from_pretrained(folder)
    shape = config(size)
    shape.vocab_size = max(shape.vocab_size, len(words))  # of a tiny shape with a real tokenizer
    shape.initializer_range = _SPREAD / shape.hidden_size**0.5
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(shape, name, getattr(words, name))
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(shape, dtype=torch.bfloat16)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):  # Qwen2's attention has some; they are drawn as zeros
                weight.normal_(0.0, 0.5)
    model.save_pretrained(folder)


def machine() -> dict[str, Any]:
    """The card and what computes on it."""
    import torch

    found: dict[str, Any] = {"kind": "machine", "card": "cpu", "python": platform.python_version()}
    if torch.cuda.is_available():
        facts = torch.cuda.get_device_properties(0)
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(asked, capture_output=True, text=True, check=False) if shutil.which(asked[0]) else None
        found |= {
            "card": f"{facts.name} ({facts.total_memory / 2**30:.0f} GiB, sm_{facts.major}{facts.minor})",
            "driver": driver.stdout.strip() if driver else "unknown",
            "cuda": torch.version.cuda,
        }
    names = ("torch", "triton", "transformers", "trl", "peft", "accelerate", "deepspeed")
    return {**found, **{name: _version(name) for name in names}}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=list(SIZES), required=True)
    parser.add_argument("--tokenizer", type=Path, help="folder of the tokenizer's files; left out, one of bytes")
    parser.add_argument("--needs-gpu", action="store_true", help="exit code 2 without one")
    options = parser.parse_args()
    import torch

    if options.needs_gpu and not torch.cuda.is_available():
        print("gpu_model: there must be a CUDA device, but torch sees none", file=sys.stderr)
        return 2
    print(json.dumps({**machine(), "tokenizer": "a real one" if options.tokenizer else "of bytes"}))
    save(options.size, options.folder, options.tokenizer)

    return 0


if __name__ == "__main__":
    raise SystemExit(main())

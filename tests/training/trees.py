"""Tiny random models, groups of random tokens, and padded rows to compare a tree with."""

from __future__ import annotations

import random
from typing import Any

import torch
import transformers
from torch.nn.functional import logsigmoid

from align.tree.layout import TokenGroup

VOCABULARY = 80
SHAPES: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Qwen2": {},
    "Qwen3": {"head_dim": 16},
    "Mistral": {"sliding_window": None},
    "Olmo2": {},
}
"""The models that every claim is tested on."""
OTHERS: dict[str, dict[str, Any]] = {
    "Ernie4_5": {},
    "Gemma": {"head_dim": 16},
    "Glm4": {"head_dim": 16},
    "HunYuanDenseV1": {"head_dim": 16},
    "Phi3": {},
    "Qwen3Moe": {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "SmolLM3": {"no_rope_layer_interval": 2},
    "Starcoder2": {},
}
"""The rest of `align.tree.support.PROVEN`."""


def config(name: str, **changes: Any) -> Any:
    """Two layers of 32, four heads over two key heads; weights wide enough that attention matters."""
    shape = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "attn_implementation": "sdpa",
    }
    return getattr(transformers, f"{name}Config")(**{**shape, **(SHAPES | OTHERS).get(name, {}), **changes})


def model(name: str, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """A model at a fixed seed; the global generator is left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return getattr(transformers, f"{name}ForCausalLM")(config(name, **changes)).to(dtype).train()


def group(prompt: int, *completions: int, seed: int = 0) -> TokenGroup:
    """Random tokens of the lengths given."""
    draw = random.Random(f"{seed} {prompt} {completions}")
    tokens = [[draw.randrange(3, VOCABULARY) for _ in range(length)] for length in (prompt, *completions)]
    return TokenGroup(tokens[0], tokens[1:])


def padded_logps(model: Any, groups: list[TokenGroup]) -> torch.Tensor:
    """log p of each completion, in a right-padded row of its own with its prompt again, through all logits."""
    rows = [(list(each.prompt), list(completion)) for each in groups for completion in each.completions]
    width = max(len(prompt) + len(completion) for prompt, completion in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for number, (prompt, completion) in enumerate(rows):
        ids[number, : len(prompt) + len(completion)] = torch.tensor(prompt + completion)
        mask[number, : len(prompt) + len(completion)] = 1
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    logps = (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1)
    return torch.stack(
        [
            logps[number, len(prompt) - 1 : len(prompt) + len(completion) - 1]
            .gather(-1, torch.tensor(completion)[:, None])
            .sum()
            for number, (prompt, completion) in enumerate(rows)
        ]
    )


def preference_loss(logps: torch.Tensor, groups: list[TokenGroup]) -> torch.Tensor:
    """Mean of -log sigmoid(0.1 x difference) over all pairs of a group, the earlier completion preferred."""
    losses = []
    for each in logps.split([len(one.completions) for one in groups]):
        better, worse = torch.triu_indices(len(each), len(each), offset=1)
        losses.append(-logsigmoid(0.1 * (each[better] - each[worse])))
    return torch.cat(losses).mean()


def gradients(model: Any, loss: torch.Tensor) -> torch.Tensor:
    """All gradients in one vector of float64."""
    model.zero_grad()
    loss.backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.cat(
        [(torch.zeros_like(each) if each.grad is None else each.grad).flatten().double() for each in trained]
    )


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Norm of the difference over the norm of what is expected."""
    return float((found - expected).norm() / expected.norm())

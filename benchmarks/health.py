"""Health: what looking for NaN and infinity in every gradient and weight costs of a training step, on a CPU.

python benchmarks/health.py [--check]     (--check: fewer steps; exits 1 above 2 % of a step)
"""

from __future__ import annotations

import os
import sys
import time
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from align.training.loop.health import _all_finite

CEILING = 0.02


def main(num_steps: int) -> float:
    """Share of a full fine-tuning step (24M weights, 4 rows of 128 tokens, float32), by process time."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8192, hidden_size=512, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=8
    )
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    ids_B_T = torch.randint(0, 8192, (4, 128))
    steps, looks = [], []
    for _ in range(num_steps):
        start = time.process_time()
        model(input_ids=ids_B_T, labels=ids_B_T).loss.backward()
        middle = time.process_time()
        is_finite = _all_finite([p.grad for p in model.parameters() if p.grad is not None])
        is_finite = _all_finite([p.detach() for p in model.parameters()]) and is_finite
        looked = time.process_time()
        assert is_finite
        optimizer.step()
        optimizer.zero_grad()
        steps.append(middle - start + time.process_time() - looked)
        looks.append(looked - middle)
    num_weights = sum(p.numel() for p in model.parameters())
    share = median(looks) / median(steps)
    print(f"{num_weights / 1e6:.0f}M weights: step {median(steps) * 1e3:.0f} ms, looking {median(looks) * 1e3:.1f} ms")
    print(f"{share:.2%} of a step")
    return share


if __name__ == "__main__":
    raise SystemExit(main(8 if "--check" in sys.argv else 30) > CEILING)

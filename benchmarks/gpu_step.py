"""GPU step: a preference training step of TRL's and of ours, a JSON line each; `gpu_acceptance.sh` makes a table.

    python benchmarks/gpu_step.py --size 0.5B --tune lora --shape 1024:256 --pairs 4

Random weights of Qwen2.5's shapes, bfloat16 arithmetic as a recipe has it: LoRA on a bfloat16 base, full fine-tuning on
float32 weights under autocast. Both arms have the reference precomputed and no activation checkpointing where that
fits, with it where not. Steps are timed by the clock, after two that are not; no optimizer runs. It runs on any device:
`--size tiny` on a CPU tests everything but the numbers. What does not fit says so in its line and exits with 0.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import torch
from gpu_model import SIZES, config
from operations import counter, peak_bytes
from preference_arms import Arm, Shape, Stepper, move, random_model

from align.training.step.choice import choose_forward

FULL_BYTES = 16
"""A weight: float32 itself, its gradient, and AdamW's two moments."""
MEMORY_SHARE = 0.8
"""Of the device's memory that they may take; activations need the rest."""
NUM_WARM, NUM_TIMED = 2, 5


def why_not(options: argparse.Namespace, device: torch.device) -> str | None:
    """Full fine-tuning is not tried where weights, gradients and AdamW's moments leave too little for activations."""
    if options.tune != "full" or device.type != "cuda":
        return None
    with torch.device("meta"):
        from transformers import AutoModelForCausalLM

        num_weights = AutoModelForCausalLM.from_config(config(options.size)).num_parameters()
    total = torch.cuda.get_device_properties(device).total_memory
    if num_weights * FULL_BYTES <= MEMORY_SHARE * total:
        return None
    return (
        f"does not fit: {num_weights * FULL_BYTES / 2**30:.0f} GiB of weights, gradients and moments, above "
        f"{MEMORY_SHARE:.0%} of the {total / 2**30:.0f} GiB there are"
    )


def ceiling(device: torch.device) -> float:
    """Operations a second of one large bfloat16 matrix product, the best of ten."""
    size = 8192 if device.type == "cuda" else 512
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = min(clocked(lambda: left @ right, device) for _ in range(10))
    return 2 * size**3 / seconds


def clocked(call: Callable[[], Any], device: torch.device) -> float:
    """Seconds by the clock until the device is done."""
    _wait(device)
    start = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(options: argparse.Namespace, checkpointing: bool, device: torch.device, folder: Path) -> dict[str, Any]:
    """Build the arm's trainer, count one step and time some."""
    from peft import LoraConfig

    prompt, completion = map(int, options.shape.split(":"))
    shape = Shape(options.shape, ((prompt, (completion, completion)),) * options.pairs, options.pairs)
    is_ours = options.arm == "ours"
    arm = Arm(options.arm, is_ours=is_ours, checkpointing=checkpointing, forward=options.forward)
    is_full = options.tune == "full"
    policy = random_model(config(options.size), torch.float32 if is_full else torch.bfloat16, device)
    lora = None if is_full else LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    given = {"bf16": True, "use_cpu": device.type == "cpu"}
    stepper = Stepper(arm, shape, policy, None, folder, given, lora)
    move(stepper.trainer.model)
    with counter() as counted:
        loss = stepper.step()
    norm = stepper.gradient_norm()
    stepper.clear()
    _wait(device)
    held = torch.cuda.memory_allocated(device) if device.type == "cuda" else None
    peak = peak_bytes(stepper.step, device)
    reserved = torch.cuda.max_memory_reserved(device) if device.type == "cuda" else None
    seconds = []
    for number in range(NUM_WARM + NUM_TIMED):
        stepper.clear()
        taken = clocked(stepper.step, device)
        if number >= NUM_WARM:
            seconds.append(taken)
    return {
        "forward": stepper.forward,
        "checkpointing": checkpointing,
        "seconds": median(seconds),
        "pairs_per_second": shape.num_pairs / median(seconds),
        "operations": counted.get_total_flops(),
        "step_bytes": peak,
        "peak_bytes": None if held is None else held + peak,
        "reserved_bytes": reserved,
        "auto": str(choose_forward(shape.lengths, policy.config)) if is_ours else None,
        "loss": loss,
        "gradient_norm": norm,
    }


def attempt(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Without activation checkpointing, then with it; what memory does not hold is said, not raised."""
    reason = why_not(options, device)
    for checkpointing in (False, True):
        if reason is not None and reason.startswith("does not fit"):
            break
        try:
            with tempfile.TemporaryDirectory() as folder:
                return measure(options, checkpointing, device, Path(folder))
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            reason = f"out of memory, checkpointing {'on too' if checkpointing else 'off'}"
        free(device)
    return {"not_measured": reason}


def free(device: torch.device) -> None:
    """Give back what the arm or the attempt before took."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _is_out_of_memory(error: RuntimeError) -> bool:
    """CUDA has a type for it, a CPU's allocator a text."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), required=True)
    parser.add_argument("--tune", choices=["lora", "full"], required=True)
    parser.add_argument("--arms", choices=["TRL", "ours"], nargs="+", default=["TRL", "ours"])
    parser.add_argument("--shape", default="1024:256", help="tokens of prompt:completion")
    parser.add_argument("--pairs", type=int, default=4, help="of a micro-batch, which is a step")
    parser.add_argument("--forward", choices=["auto", "tree", "padded"], default="tree", help="of ours")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    speed = ceiling(device)
    for arm in options.arms:
        each = argparse.Namespace(**{**vars(options), "arm": arm})
        row = {"kind": "step", **vars(each), "device": name, "torch": torch.__version__, "ceiling": speed}
        print(json.dumps({**row, **attempt(each, device)}), flush=True)
        free(device)


if __name__ == "__main__":
    main()

"""DPO: a training step of ours against TRL's, in time, operations and memory, on a CPU.

    OMP_NUM_THREADS=1 python benchmarks/dpo.py [--check] [--rounds N]

SmolLM2-135M's shape with random weights, full fine-tuning in float32, one thread: collate, forward and backward through
each trainer's own `training_step`. Process time, arms interleaved, medians (TRL's default: one step). No ratio is
printed unless all arms give the same loss and gradient norm. Prints the table of docs/benchmarks.md; `--check` takes
two shapes, fewer layers and not TRL's default, and exits with 1 below its floors.
"""

from __future__ import annotations

import argparse
import copy
import gc
import math
import os
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import torch
from operations import HeadPositions, SavedBytes, counter, peak_bytes
from preference_arms import Arm, Shape, Stepper, move, random_model, smollm2_config

from align.tree.layout import TreePlan

ARMS = (
    Arm("TRL default", completions_only=False, checkpointing=True, is_precomputed=False),
    Arm("TRL default + its GPU row selection", checkpointing=True, is_precomputed=False),
    Arm("TRL best settings with it", is_sorted=True),
    Arm("ours", is_ours=True),
)
FLOORS = {"256:64": (1.6, 1.15), "128:128": (1.35, 1.03)}
"""What `--check` wants against the second and the third arm, with 6 layers."""
TOLERANCE = 1e-5
"""Relative; beside it what TRL loses by adding up nats in float32, see `lost_by_rounding`."""
BETA = 0.1
"""TRL's default."""


@dataclass
class Found:
    """What was measured of one arm."""

    seconds: list[float] = field(default_factory=list)
    reference_seconds: float = 0.0
    """The reference's part, once for the run; 0 where it is in each step."""
    operations: int = 0
    saved: int = 0
    peak: int = 0
    positions: int = 0
    forward: str = ""


def pairs(prompt: int, completion: int, num_completions: int = 2) -> Shape:
    name = f"{prompt}:{completion}"
    return Shape(
        name if num_completions == 2 else f"{num_completions} of {name}", ((prompt, (completion,) * num_completions),)
    )


def ragged(name: str, prompt: int, completion: int) -> Shape:
    """Eight pairs in micro-batches of 4, lengths log-normal (sigma 0.6) about medians: a few long ones among many."""
    draw = random.Random(1)

    def length(middle: int) -> int:
        return max(8, min(4 * middle, round(draw.lognormvariate(0, 0.6) * middle)))

    lengths = tuple((length(prompt), (length(completion), length(completion))) for _ in range(8))
    return Shape(name, lengths, groups_per_batch=4)


SHAPES = (
    pairs(512, 128),
    pairs(256, 256),
    pairs(128, 512),
    ragged("ragged 4:1", 112, 28),
    ragged("ragged 1:3", 32, 96),
    pairs(256, 64, num_completions=4),
    pairs(32, 512),
)


def timed(call: Any) -> tuple[Any, float]:
    """What it returns and the process seconds it took."""
    start = time.process_time()
    result = call()
    return result, time.process_time() - start


def look(stepper: Stepper, found: Found, with_peak: bool) -> None:
    """Count what one step computes and keeps, and assert that it took the arm's route."""
    arm = stepper.arm
    saved, counted = SavedBytes(stepper.trainer.model), counter()
    positions = HeadPositions(stepper.trainer.model.get_output_embeddings())
    with positions, counted, saved:
        stepper.step()
    stepper.clear()
    if with_peak:  # by itself: the counter holds on to tensors
        found.peak = peak_bytes(stepper.step, torch.device("cpu"))
        stepper.clear()
    found.operations, found.saved = counted.get_total_flops(), saved.num_bytes
    if arm.is_precomputed:
        _, found.reference_seconds = timed(stepper.reference_pass)
    found.positions = stepper.scored_positions()
    # once forward, and once more backward, since no logits are kept
    assert positions.num_positions == 2 * found.positions, (arm, positions.num_positions, found.positions)
    assert stepper.trainer.model.is_activation_checkpointing == arm.checkpointing, arm
    assert (stepper.trainer.ref_model is None) == arm.is_precomputed, arm
    if arm.is_ours:
        batch = stepper.trainer.data_collator([stepper.trainer.train_dataset[0]])
        is_tree = isinstance(batch["packs"][0].layout, TreePlan)
        assert is_tree == (stepper.forward == "tree"), arm
        found.forward = stepper.forward


def measure(
    shape: Shape, arms: Sequence[Arm], policy: Any, reference: Any, num_rounds: int, folder: Path, with_peak: bool
) -> dict[str, Found]:
    """One step of each arm in turn.

    Raises:
        SystemExit: with 1, when the arms do not compute the same.
    """
    found = {arm.name: Found() for arm in arms}
    steppers = []
    for arm in arms:
        given = {"use_cpu": True, "bf16": False}
        stepper = Stepper(arm, shape, policy, reference, folder / arm.name, given)
        look(stepper, found[arm.name], with_peak)
        steppers.append(stepper)
    for number in range(num_rounds):
        results = {}
        for stepper in steppers:
            if number > 0 and stepper.arm is ARMS[0]:
                continue  # slow, and no claim stands on it: one round
            loss, seconds = timed(stepper.step)
            results[stepper.arm.name] = (loss, stepper.gradient_norm())
            found[stepper.arm.name].seconds.append(seconds)
            stepper.clear()
        check_same(shape, results)
    del steppers
    gc.collect()
    return found


def check_same(shape: Shape, results: dict[str, tuple[float, float]]) -> None:
    allowed = TOLERANCE + lost_by_rounding(shape)
    for name, values in results.items():
        for value, expected in zip(values, results[ARMS[-1].name], strict=True):
            if not abs(value - expected) <= allowed * max(1.0, abs(expected)):
                print(f"{shape.name}: {name} differs, (loss, gradient norm) are {results}; no speed-up to report")
                raise SystemExit(1)


def lost_by_rounding(shape: Shape) -> float:
    """A unit in the last place of each of the four sums of a pair, times beta.

    Tokens agree to 2e-6 nats. TRL adds up those of a completion in float32, where 2,800 nats are 2.4e-4 apart; ours in
    float64. The loss, and by its factor the gradient, move by as much.
    """
    nats_a_token = math.log(smollm2_config().vocab_size)  # random weights know nothing
    nats = max(max(each) for _, each in shape.lengths) * nats_a_token
    return BETA * 4 * 2.0 ** (math.floor(math.log2(nats)) - 23)


def ratio(found: dict[str, Found], arm: Arm) -> float:
    """Median over the rounds of an arm's time over ours."""
    ours = found[ARMS[-1].name].seconds
    return median(theirs / mine for theirs, mine in zip(found[arm.name].seconds, ours, strict=False))


HEADER = (
    "prompt:completion",
    "arm",
    "s/step",
    "times ours",
    "reference once, s",
    "GFLOP",
    "head positions",
    "saved MiB",
    "peak MiB",
)


def print_row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def print_rows(shape: Shape, found: dict[str, Found]) -> None:
    for arm in ARMS:
        if arm.name not in found:
            continue
        each = found[arm.name]
        print_row(
            shape.name,
            f"{arm.name}: {each.forward}" if arm.is_ours else arm.name,
            f"{median(each.seconds):.1f}",
            f"{ratio(found, arm):.2f}",
            f"{each.reference_seconds:.1f}" if arm.is_precomputed else "each step",
            f"{each.operations / 1e9:,.0f}",
            f"{each.positions:,}",
            f"{each.saved / 2**20:,.0f}",
            f"{each.peak / 2**20:,.0f}" if each.peak else "",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="two shapes, 6 layers; exit 1 below a floor")
    parser.add_argument("--rounds", type=int, default=3, help="steps of each arm but TRL's default")
    parser.add_argument("--layers", type=int, default=30, help="fewer are quicker; the LM head then weighs more")
    parser.add_argument("--only", default="", help="names of shapes, with commas")
    options = parser.parse_args()
    torch.set_num_threads(1)
    reference = random_model(smollm2_config(6 if options.check else options.layers), torch.float32, torch.device("cpu"))
    policy = copy.deepcopy(reference)
    move(policy)
    shapes = [shape for shape in SHAPES if not options.only or shape.name in options.only.split(",")]
    if options.check:
        options.rounds = 4
        shapes = [pairs(256, 64), pairs(128, 128)]
    arms = ARMS[options.check :]
    print_row(*HEADER)
    print_row(*["---"] * len(HEADER))
    lines, is_below = [], False
    for shape in shapes:
        with tempfile.TemporaryDirectory() as name:
            found = measure(shape, arms, policy, reference, options.rounds, Path(name), not options.check)
        print_rows(shape, found)
        second, third = ratio(found, ARMS[1]), ratio(found, ARMS[2])
        lines.append(f"{shape.name}: {second:.2f} and {third:.2f} times as fast as TRL's second and third arm")
        floors = FLOORS.get(shape.name, (0.0, 0.0))
        is_below |= options.check and (second < floors[0] or third < floors[1])
    print("\n" + "; ".join(lines))
    raise SystemExit(is_below)


if __name__ == "__main__":
    main()

"""Tree: a step that encodes each prompt once, against plain padded rows, both with the LM head at completions only.

    OMP_NUM_THREADS=1 python benchmarks/tree.py [--check] [--long]

SmolLM2-135M's shape with random weights, float32, one thread: forward and backward of a preference loss. Process time,
arms interleaved, medians. No ratio is printed unless both arms give the same loss. `--long` adds shapes whose
completions dwarf their prompts, where the padded forward should be chosen.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from preference_arms import smollm2_config
from torch.nn.functional import logsigmoid
from torch.utils.flop_counter import FlopCounterMode

from align.training.step.choice import Choice, choose_forward
from align.training.step.cpu_head import score_completions_only
from align.training.step.tree_forward import completion_logps, score_trees
from align.tree.layout import TokenGroup, TreePlan, plan_tree

FLOORS = {"2 of 512:128": 1.3, "2 of 256:256": 1.1, "4 of 256:64": 1.65}
"""The ratios that `--check` wants; 1.41, 1.20 and 1.82 were measured with its layers, 1.57, 1.29 and 2.34 with 30."""
_CHECKED_LAYERS = 6
"""The LM head, where the tree gains nothing on pairs, weighs more with few."""


@dataclass(frozen=True)
class Shape:
    """Equal groups of one prompt and K completions."""

    prompt: int
    completion: int
    num_completions: int = 2
    num_groups: int = 1

    def __str__(self) -> str:
        return f"{self.num_completions} of {self.prompt}:{self.completion}"

    def groups(self, vocabulary: int) -> list[TokenGroup]:
        generator = torch.Generator().manual_seed(0)
        count = self.prompt + self.num_completions * self.completion
        drawn = torch.randint(0, vocabulary, (self.num_groups, count), generator=generator)
        return [
            TokenGroup(row[: self.prompt].tolist(), row[self.prompt :].view(self.num_completions, -1).tolist())
            for row in drawn
        ]


def build(num_layers: int) -> Any:
    """SmolLM2-135M from its figures, with fewer layers for `--check`; nothing is downloaded."""
    from transformers import LlamaForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    torch.manual_seed(0)
    model = LlamaForCausalLM(smollm2_config(num_layers))
    add_fused_lm_head(model)
    assert score_completions_only(model, ("log_probs",))
    score_trees(model)
    return model


def tree(model: Any, plan: TreePlan) -> torch.Tensor:
    """Summed log-probs of each completion; in float64, since a sum of 1,400 in float32 is off by 1e-4."""
    return plan.sums(completion_logps(model, plan).double())


def padded(model: Any, groups: list[TokenGroup]) -> torch.Tensor:
    """The same from a row of each completion with its prompt; rows are of equal length here, so nothing is wasted."""
    rows = [[*each.prompt, *completion] for each in groups for completion in each.completions]
    ids = torch.tensor(rows)
    labels = ids.masked_fill(torch.arange(ids.size(1)) < len(groups[0].prompt), -100)
    output = model(input_ids=ids, labels=labels, fused_lm_head=True, use_cache=False)
    return output.log_probs.double().sum(dim=1)


def loss_of(logps: torch.Tensor, num_completions: int) -> torch.Tensor:
    """DPO's loss without a reference, over all pairs of a group."""
    better, worse = torch.triu_indices(num_completions, num_completions, offset=1)
    logps_B_G = logps.view(-1, num_completions)
    return -logsigmoid(0.1 * (logps_B_G[:, better] - logps_B_G[:, worse])).mean()


def step(model: Any, forward: Any, layout: Any, num_completions: int) -> tuple[float, float]:
    """(loss, process seconds) of one forward and backward."""
    model.zero_grad()
    start = time.process_time()
    loss = loss_of(forward(model, layout), num_completions)
    loss.backward()
    return float(loss.detach()), time.process_time() - start


def operations(model: Any, forward: Any, layout: Any) -> int:
    """Floating-point operations of a forward, without attention's: torch counts none of its CPU kernel."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        forward(model, layout)
    return int(counter.get_total_flops())


def measure(model: Any, shape: Shape, num_steps: int) -> float:
    """Print one line of the table and return how many times as fast the tree is."""
    groups = shape.groups(model.config.vocab_size)
    arms = {"padded": (padded, groups), "tree": (tree, plan_tree(groups))}
    times: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(num_steps + 1):
        losses = {}
        for name, (forward, layout) in arms.items():
            losses[name], seconds = step(model, forward, layout, shape.num_completions)
            if number:  # the first step pays for memory
                times[name].append(seconds)
        if not abs(losses["tree"] - losses["padded"]) <= 1e-5:
            raise SystemExit(f"{shape}: the losses differ: {losses}; no speed-up to report")
    ratio = median(one / other for one, other in zip(times["padded"], times["tree"], strict=True))
    counted = {name: operations(model, *arm) for name, arm in arms.items()}
    lengths = [(len(each.prompt), [len(ids) for ids in each.completions]) for each in groups]
    choice: Choice = choose_forward(lengths, model.config)
    print(
        f"{shape!s:>14} | {median(times['padded']):6.2f} s | {median(times['tree']):6.2f} s | {ratio:5.2f} | "
        f"{counted['padded'] / counted['tree']:5.2f} | {choice.gain:5.2f} | {choice.forward}",
        flush=True,
    )
    return ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="few layers, two steps an arm; exit 1 below a floor")
    parser.add_argument("--long", action="store_true", help="completions of 4, 8 and 16 prompts too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = build(_CHECKED_LAYERS if options.check else 30)
    shapes = [Shape(512, 128), Shape(256, 256), Shape(256, 64, num_completions=4)]
    if not options.check:
        shapes.insert(2, Shape(128, 512))
    if options.long:
        shapes += [Shape(64, 256), Shape(64, 512), Shape(32, 512)]
    print("      K of P:C |   padded |     tree | ratio | FLOPs | estim | auto", flush=True)
    found = {str(shape): measure(model, shape, 2 if options.check else 5) for shape in shapes}
    print(", ".join(f"{name}: {ratio:.2f}" for name, ratio in found.items()) + " times as fast")
    below = {name: floor for name, floor in FLOORS.items() if found[name] < floor}
    for name, floor in below.items():
        print(f"{name}: {found[name]:.2f} is below {floor}")
    raise SystemExit(1 if options.check and below else 0)


if __name__ == "__main__":
    main()

"""Learning rates: a small sweep of the demo's DPO, skill on held-out questions beside what the trainer logs.

    python benchmarks/learning_rates.py [--check] [1e-5 3e-5 1e-4] [-- key=value ...]

Needs `align build contrast data_builders/contrast_short.yaml` first. About three minutes a row on two cores. `--check`
trains one short row and fails unless the margin rose.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from pathlib import Path
from statistics import fmean

from align.data.files.rows import read_prompts
from align.evaluation.arms import Arm, answer
from align.evaluation.measures import skill_scores
from align.recipes.dpo import DPORecipe
from align.teachers.base import Sampling


def row(rate: str, words: list[str], folder: Path, num_prompts: int) -> tuple[float, float]:
    """(last margin, skill) of one training run; prints its row."""
    output = folder / rate
    words = [f"output_dir={output}", f"trainer.learning_rate={rate}", *words]
    recipe = DPORecipe.from_file("recipes/short_dpo.yaml", *words)
    recipe.run()
    logged = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    last = [one for one in logged if "rewards/margins" in one][-1]
    settings = recipe.settings.compare
    prompts = read_prompts(f"{settings.dataset}/heldout.jsonl")[:num_prompts]
    sampling = Sampling(settings.temperature, settings.top_p, settings.max_tokens)
    answers = answer([Arm("run", str(output))], prompts, sampling, 1, "bfloat16", settings.batch_size)["run"]
    scores = asyncio.run(skill_scores(settings.check.load(), prompts, answers))
    skill = fmean(score for one in scores for score in one)
    accuracy, margin = last["rewards/accuracies"], last["rewards/margins"]
    print(
        f"| {rate} | accuracy {accuracy:.2f} | margin {margin:.2f} | skill {skill:.0%} of {len(prompts)} |", flush=True
    )
    return margin, skill


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("words", nargs="*", default=[])
    arguments = parser.parse_args()
    more = [word for word in arguments.words if "=" in word]
    rates = [word for word in arguments.words if "=" not in word] or ["1e-5", "3e-5", "1e-4"]
    with tempfile.TemporaryDirectory() as name:
        if arguments.check:
            margin, _ = row("1e-4", ["trainer.max_steps=24", *more], Path(name), num_prompts=8)
            print(f"margin {margin:.3f} after 24 steps")
            raise SystemExit(0 if margin > 0 else 1)
        for rate in rates:
            row(rate, more, Path(name), num_prompts=60)


if __name__ == "__main__":
    main()

"""Encoding: pairs to token ids, against TRL's way of one row at a time and against whole texts in batches.

    python benchmarks/encoding.py [--check]

The embedded model's tokenizer, 1,000 pairs cut out of this repository's pages, prompt and answers of given lengths;
"shared" has four pairs a prompt, as groups of candidates give them. Process time of one thread, arms interleaved, the
least of three. No ratio is printed unless all arms give the same ids.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["RAYON_NUM_THREADS"] = "1"

ROOT = Path(__file__).resolve().parent.parent
NUM_PAIRS, NUM_TIMES = 1000, 3
SHAPES = {"4:1": (2000, 500, 1), "1:1": (1000, 1000, 1), "1:3": (500, 1500, 1), "4:1 shared": (2000, 500, 4)}
"""Characters of the prompt and of each answer, pairs a prompt."""
FLOOR = 1.5
"""The ratio to TRL that `--check` wants for 4:1; 2.6 was measured."""

Row = tuple[list[int], list[int], list[int]]


def make_pairs(prompt: int, answer: int, share: int) -> list[Any]:
    """Pairs of random pieces of the pages."""
    from align.data.rows.pair import Message, PreferencePair

    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").rglob("*.md")))
    draw = random.Random(0)

    def piece(role: str, length: int) -> tuple[Message, ...]:
        start = draw.randrange(len(text) - 2 * length)
        return (Message(role, text[start : start + draw.randint(length // 2, length * 3 // 2)].strip()),)

    prompts = [piece("user", prompt) for _ in range(NUM_PAIRS // share)]
    return [
        PreferencePair(one, piece("assistant", answer), piece("assistant", answer))
        for one in prompts
        for _ in range(share)
    ]


def with_trl(rows: list[Any], tokenizer: Any) -> list[Row]:
    """What `DPOTrainer._prepare_dataset` does with each row, without its dataset around it."""
    from trl.data_utils import _tokenize, common_prefix_length

    encoded = []
    for row in rows:
        columns = row.to_dict()
        prompt = _tokenize(tokenizer, columns["prompt"], add_generation_prompt=True)["input_ids"]
        chosen, rejected = (
            _tokenize(tokenizer, columns["prompt"] + columns[side])["input_ids"] for side in ("chosen", "rejected")
        )
        same = min(common_prefix_length(prompt, chosen), common_prefix_length(prompt, rejected))
        encoded.append((prompt[:same], chosen[same:], rejected[same:]))
    return encoded


def whole_in_batches(rows: list[Any], tokenizer: Any) -> list[Row]:
    """Every prompt and every pair whole, in batches."""
    columns = [row.to_dict() for row in rows]
    texts = [
        tokenizer.apply_chat_template([row["prompt"] for row in columns], add_generation_prompt=True, tokenize=False),
        *(
            tokenizer.apply_chat_template([row["prompt"] + row[side] for row in columns], tokenize=False)
            for side in ("chosen", "rejected")
        ),
    ]
    prompts, chosen, rejected = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in texts)
    return [(p, c[len(p) :], r[len(p) :]) for p, c, r in zip(prompts, chosen, rejected, strict=True)]


def ours(rows: list[Any], tokenizer: Any) -> list[Row]:
    """`align.training.rows.encoding.encode`."""
    from align.training.rows.encoding import encode

    return [
        (list(row.prompt_ids), *(list(ids) for ids in row.completions_ids))  # type: ignore[misc]
        for row in encode(rows, tokenizer)
    ]


def measure(arms: list[Callable[[list[Any], Any], list[Row]]], rows: list[Any], tokenizer: Any) -> list[float]:
    """Least seconds of each arm; raises where their ids differ."""
    times: list[list[float]] = [[] for _ in arms]
    for _ in range(NUM_TIMES):
        found = []
        for arm, spent in zip(arms, times, strict=True):
            start = time.process_time()
            found.append(arm(rows, tokenizer))
            spent.append(time.process_time() - start)
        if any(one != found[0] for one in found):
            raise SystemExit("the arms give different ids")
    return [min(spent) for spent in times]


def main() -> None:
    """Print the table."""
    from align.models.load import load_tokenizer

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="one shape; fail below the floor")
    is_check = parser.parse_args().check
    tokenizer = load_tokenizer("embedded:smollm2-135m")
    print("prompt:answer    TRL, one by one   whole, in batches   ours       to TRL   to batches")
    for name, shape in list(SHAPES.items())[: 1 if is_check else None]:
        trl, batched, own = measure([with_trl, whole_in_batches, ours], make_pairs(*shape), tokenizer)
        times = f"{trl:8.2f} s        {batched:8.2f} s          {own:.2f} s"
        print(f"{name:<16} {times}     {trl / own:.2f}×    {batched / own:.2f}×")
        if is_check and trl / own < FLOOR:
            raise SystemExit(f"must be {FLOOR}× TRL's, but is {trl / own:.2f}×")


if __name__ == "__main__":
    main()

"""GPU teacher: tokens a second of the local teacher and of transformers' `generate` on the same prompts, greedily.

    python benchmarks/gpu_teacher.py --model FOLDER [--batch 64 --tokens 64]

A JSON line for each arithmetic. In float32 both should write the same; how many answers are equal is said, and a ratio
is for the reader to make where all are. An untrained model chooses between near-equal tokens, so a few may tip.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from align.data.rows.pair import Message, as_dicts
from align.models.load import load_model, load_tokenizer
from align.models.scoring import render_prompt
from align.teachers.base import Sampling
from align.teachers.local import LocalTeacher


def prompts(number: int) -> list[tuple[Message, ...]]:
    """Of about the same length, all different."""
    return [(Message("user", f"What is the {index}th thing that you would take along?"),) for index in range(number)]


def ours(model: str, dtype: str, asked: list[tuple[Message, ...]], tokens: int) -> tuple[list[str], float]:
    """Answers, and tokens a second of all of them together, after a first one that loads and warms up."""
    sampling = Sampling(temperature=0.0, max_tokens=tokens)
    teacher = LocalTeacher(model, dtype, batch_size=len(asked))

    async def together() -> tuple[list[str], float]:
        try:
            await teacher.complete(asked[0], Sampling(temperature=0.0, max_tokens=2))
            start = time.perf_counter()
            found = await asyncio.gather(*(teacher.complete(messages, sampling) for messages in asked))
            seconds = time.perf_counter() - start
        finally:
            await teacher.aclose()
        answers = [each for one in found for each in one]
        return [each.text for each in answers], sum(each.completion_tokens for each in answers) / seconds

    return asyncio.run(together())


def generated(model: str, dtype: str, asked: list[tuple[Message, ...]], tokens: int) -> tuple[list[str], float]:
    """The same by `generate`, one batch padded on the left."""
    tokenizer, loaded = load_tokenizer(model), load_model(model, dtype)
    texts = [render_prompt(tokenizer, as_dicts(messages)) for messages in asked]
    inputs = tokenizer(texts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt")
    inputs = {name: inputs[name].to(loaded.device) for name in ("input_ids", "attention_mask")}
    given: dict[str, Any] = {"do_sample": False, "pad_token_id": tokenizer.pad_token_id or 0}
    given["eos_token_id"] = tokenizer.eos_token_id
    with torch.inference_mode():
        loaded.generate(**{name: each[:1] for name, each in inputs.items()}, max_new_tokens=2, **given)
        start = time.perf_counter()
        found = loaded.generate(**inputs, max_new_tokens=tokens, **given)
        written = [_until(ids, tokenizer.eos_token_id) for ids in found[:, inputs["input_ids"].size(1) :].tolist()]
        seconds = time.perf_counter() - start
    answers = [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in written]  # as a teacher's are
    return answers, sum(map(len, written)) / seconds


def _until(ids: list[int], end: int | None) -> list[int]:
    """With the end token."""
    return ids[: ids.index(end) + 1] if end in ids else ids


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64, help="of an answer")
    options = parser.parse_args()
    asked = prompts(options.batch)
    for dtype in ("float32", "bfloat16"):
        (texts, speed), (others, of_generate) = (
            way(options.model, dtype, asked, options.tokens) for way in (ours, generated)
        )
        row = {"kind": "teacher", "dtype": dtype, "batch": options.batch, "tokens": options.tokens}
        equal = sum(one == other for one, other in zip(texts, others, strict=True))
        print(json.dumps({**row, "ours": speed, "generate": of_generate, "equal_answers": equal}), flush=True)


if __name__ == "__main__":
    main()

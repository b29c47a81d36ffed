"""Local teacher: tokens per second on short questions, and what keeping the heads of prompts spares.

    python benchmarks/local_teacher.py [--check]

The embedded SmolLM2-135M. Short questions in bfloat16 with the default batch: tokens written per second of work. Then a
reviser's requests, each behind the same worked examples, in float32: heads kept and not, in turns, process time of
encoding and writing. No ratio is printed unless the answers are the same.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from ruamel.yaml import YAML

from align.data.rows.pair import Message, Messages
from align.data_builders.revise import RevisionExample, revision_request
from align.models.decoding import prompt_heads as _prompt_heads
from align.teachers.base import Completion, Sampling
from align.teachers.local import LocalTeacher

ROOT = Path(__file__).resolve().parent.parent
MODEL = "embedded:smollm2-135m"
FLOOR = 1.5
"""Times as fast with heads; 2.0 was measured."""
NEVER = 1 << 30


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fewer requests, two minutes at most")
    is_short = parser.parse_args().check
    questions = all_questions()
    written(questions[: 32 if is_short else 128])
    return behind_examples(questions[: 12 if is_short else 24], num_rounds=1 if is_short else 3)


def written(questions: Sequence[str]) -> None:
    teacher = LocalTeacher(MODEL, batch_size=64)
    sampling = Sampling(temperature=0.5, top_p=0.95, max_tokens=128)
    answers = ask(teacher, [(Message("user", question),) for question in questions], sampling)
    stats = teacher.stats
    tokens = sum(answer.completion_tokens for answer in answers)
    print(f"short questions: {tokens / stats.seconds:.0f} tokens/s, batch of 64, {stats.mean_fill:.2f} full")


def behind_examples(questions: Sequence[str], num_rounds: int) -> int:
    """Print the ratio; 1 if it is too small or the answers differ."""
    settings = YAML(typ="safe").load(ROOT / "data_builders/revise_short.yaml")
    examples = [RevisionExample(**each) for each in settings["examples"]]
    requests = [
        revision_request(
            (Message("user", question),), f"{question} It is so, and that is all.", settings["criteria"], examples
        )
        for question in questions
    ]
    arms = {"heads kept": _prompt_heads.SHORTEST, "not kept": NEVER}
    seconds: dict[str, list[float]] = {arm: [] for arm in arms}
    texts: dict[str, list[str]] = {}
    for _ in range(num_rounds):
        for arm, shortest in arms.items():
            _prompt_heads.SHORTEST = shortest
            teacher = LocalTeacher(MODEL, dtype="float32", batch_size=16)
            asyncio.run(teacher.complete((Message("user", "Hello!"),), Sampling(max_tokens=1)))  # loads the model
            start = time.process_time()
            answers = ask(teacher, requests, Sampling(temperature=0.0, max_tokens=24))
            seconds[arm].append(time.process_time() - start)
            texts[arm] = [answer.text for answer in answers]
    if texts["heads kept"] != texts["not kept"]:
        print("the answers differ; no speed-up to report")
        return 1
    kept, not_kept = (median(seconds[arm]) for arm in arms)
    print(f"{len(requests)} requests of {answers[0].prompt_tokens} tokens: {not_kept:.1f} CPU s, heads kept {kept:.1f}")
    print(f"{not_kept / kept:.2f} times as fast with heads kept")
    return 0 if not_kept / kept >= FLOOR else 1


def ask(teacher: LocalTeacher, prompts: Sequence[Messages], sampling: Sampling) -> list[Completion]:
    async def together() -> list[list[Completion]]:
        try:
            return await asyncio.gather(*(teacher.complete(messages, sampling) for messages in prompts))
        finally:
            await teacher.aclose()

    return [each for found in asyncio.run(together()) for each in found]


def all_questions() -> list[str]:
    topics = YAML(typ="safe").load(ROOT / "data_builders/contrast_short.yaml")["prompts"]
    return [question for topic in topics.values() for question in topic]


if __name__ == "__main__":
    raise SystemExit(main())

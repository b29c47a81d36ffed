"""Lint: CPU seconds for a file of 100,000 pairs, and how many planted near-duplicates are found in 3,300 documents.

    python benchmarks/lint.py [--check]

Made texts: half of the pairs Chinese, half English; prompts of about 60 tokens, sides of 100 to 200, an instruction to
look for, and a test file of 1,000 prompts. Floors: 60 s; 290 of 300 found, and no other.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent.parent))

from align.data.files.rows import write_rows
from align.data.lint.duplicates import near_duplicates
from align.data.lint.file import lint_file
from align.data.rows.pair import Message, PreferencePair, Prompt
from align.text.normal import normalised
from tests.data.lint.made_texts import chinese, edited, english

MAX_SECONDS = 60.0
MIN_FOUND = 290


def pairs(num: int) -> Iterator[PreferencePair]:
    """Pairs of equal parts of either language; every side is cut from two documents."""
    generator = random.Random(1)
    languages = [
        (chinese(20_000, seed=3), chinese(num, seed=5)),
        (english(20_000, seed=3, num_words=70), english(num, seed=5)),
    ]
    meta = {"chosen": {"finish_reason": "stop"}, "rejected": {"finish_reason": "stop"}}
    for number in range(num):
        sides, prompts = languages[number % 2]
        texts = [f"{generator.choice(sides)} {generator.choice(sides)}" for _ in range(2)]
        answers = [(Message("assistant", text),) for text in texts]
        yield PreferencePair((Message("user", prompts[number]),), answers[0], answers[1], meta)


def seconds_of_lint(num: int, folder: Path) -> float:
    """CPU seconds from opening the file to the printed table."""
    write_rows(folder / "pairs.jsonl", pairs(num))
    write_rows(folder / "test.jsonl", [Prompt((Message("user", text),)) for text in english(1000, seed=99)])
    system = "You are a pirate of the seven seas and you end every sentence with a short curse about the weather. " * 3
    (folder / "persona.txt").write_text(system, encoding="utf-8")
    start = time.process_time()
    lint_file(folder / "pairs.jsonl", against=[folder / "test.jsonl"], instruction=folder / "persona.txt")
    return time.process_time() - start


def num_planted_found(rates: list[float]) -> tuple[int, int]:
    """(found of 300, false alarms) among 3,000 Chinese documents and 300 edited copies."""
    generator = random.Random(5)
    texts = chinese(3000)
    originals = generator.sample(range(3000), 300)
    copies = [edited(texts[place], rates[n % len(rates)], generator) for n, place in enumerate(originals)]
    matches = near_duplicates([normalised(text) for text in [*texts, *copies]])
    wanted = {(place, 3000 + n) for n, place in enumerate(originals)}
    found = {(match.first, match.second) for match in matches}
    return len(found & wanted), len(found - wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit 1 when a floor is missed")
    is_check = parser.parse_args().check
    for rate in (0.05, 0.1, 0.15):
        found, false = num_planted_found([rate])
        print(f"edits in {rate:.0%} of the characters: {found} of 300 found, {false} false alarms")
    found, false = num_planted_found([0.05, 0.1, 0.15])
    with tempfile.TemporaryDirectory() as folder:
        seconds = seconds_of_lint(100_000, Path(folder))
    print(
        f"100,000 pairs in {seconds:.1f} CPU s (at most {MAX_SECONDS:g}); "
        f"{found} of 300 near-duplicates (at least {MIN_FOUND}), {false} false alarms (none)"
    )
    is_missed = seconds > MAX_SECONDS or found < MIN_FOUND or false > 0
    raise SystemExit(1 if is_check and is_missed else 0)


if __name__ == "__main__":
    main()

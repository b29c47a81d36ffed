"""Builders: what training on 100 pairs of each builder did to the embedded model, good or bad (four arms).

    python benchmarks/builders.py [--only NAME ...] [--folder DIR] [--check]

For each builder: its shipped YAML over 200 questions, SFT and DPO on the first 100 pairs, `align compare`. About a
quarter of an hour each on two cores. `--check` makes ten pairs with one builder and trains nothing. A second start goes
on where the first was stopped.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
NUM_PAIRS = 100
SHORT = "{use: align.rewards.text.ShortSentence, max_words: 25}"
OLD_WORDS = (
    "{use: align.rewards.text.Contains, words: [thou, thee, thy, thine, hath, doth, ay, nay, sir, lord, o, tis]}"
)


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    builder: str
    yaml: str
    check: str
    words: tuple[str, ...] = ()
    has_questions: bool = True
    """Whether it is asked the 200 questions; else it has its own."""


CASES = {
    "student": Case("student", "student_size", SHORT),
    "best_of": Case("best_of", "best_of_short", SHORT),
    "revise": Case("revise", "revise_short", SHORT),
    "verified": Case(
        "verified", "verified_sums", "{use: align.rewards.numeric_answer.NumericAnswer}", has_questions=False
    ),
    "dialogue": Case("dialogue", "dialogue_hamlet", OLD_WORDS, ("limit=258",), has_questions=False),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--folder", type=Path, default=Path("runs/builders"))
    parser.add_argument("--check", action="store_true", help="ten pairs of one builder, nothing trained")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    questions = write_questions(folder)
    if arguments.check:
        return check(folder, questions)
    print("| builder | pairs | build, min | train, min | base | SFT | DPO | DPO − base | DPO − SFT | verdict |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in arguments.only:
        print(row(name, CASES[name], folder, questions), flush=True)
    return 0


def row(name: str, case: Case, folder: Path, questions: list[str]) -> str:
    """Build, train and compare; the table's line."""
    data = folder / name
    building_s = build(case, data, questions)
    lines = (data / "pairs.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (data / "first.jsonl").write_text("".join(lines[:NUM_PAIRS]), encoding="utf-8")
    start = time.monotonic()
    train = f"train_data={data / 'first.jsonl'}"
    align("train", "sft", ROOT / "recipes/short_sft.yaml", train, f"output_dir={folder / f'{name}-sft'}")
    section = [f"compare.dataset={data}", f"compare.sft={folder / f'{name}-sft'}", f"compare.check={case.check}"]
    run = folder / f"{name}-dpo"
    align("train", "dpo", ROOT / "recipes/short_dpo.yaml", train, f"output_dir={run}", *section)
    training_s = time.monotonic() - start
    align("compare", run, "samples=1", "max_tokens=64", codes=(0, 7))
    found = json.loads((run / "comparison" / "comparison.json").read_text(encoding="utf-8"))
    return cells(name, len(lines[:NUM_PAIRS]), building_s, training_s, found)


def cells(name: str, num_pairs: int, building_s: float, training_s: float, found: dict) -> str:
    shares = [f"{found['rates'][arm]['value']:.0%}" for arm in ("base", "SFT", "DPO")]
    differences = [
        f"{100 * one['value']:+.0f} [{100 * one['low']:+.0f}, {100 * one['high']:+.0f}]"
        for one in (found["over_base"], found["over_baseline"])
    ]
    times = [f"{building_s / 60:.1f}", f"{training_s / 60:.1f}"]
    return "| " + " | ".join([name, str(num_pairs), *times, *shares, *differences, found["verdict"]]) + " |"


def build(case: Case, data: Path, questions: list[str]) -> float:
    start = time.monotonic()
    asked = questions if case.has_questions else []
    align("build", case.builder, ROOT / f"data_builders/{case.yaml}.yaml", f"output_dir={data}", *asked, *case.words)
    return time.monotonic() - start


def write_questions(folder: Path) -> list[str]:
    """The questions of both contrast datasets, as settings of a builder."""
    texts: list[str] = []
    for name in ("short", "persona"):
        topics = YAML(typ="safe").load(ROOT / f"data_builders/contrast_{name}.yaml")["prompts"]
        texts += [question for topic in topics.values() for question in topic]
    (folder / "questions.txt").write_text("\n".join(dict.fromkeys(texts)) + "\n", encoding="utf-8")
    return [f"prompts={folder / 'questions.txt'}"]


def check(folder: Path, questions: list[str]) -> int:
    prompts = json.dumps((folder / "questions.txt").read_text(encoding="utf-8").splitlines()[:12])
    building_s = build(CASES["student"], folder / "check", [f"prompts={prompts}"])
    num_pairs = len((folder / "check" / "pairs.jsonl").read_text(encoding="utf-8").splitlines())
    print(f"{num_pairs} pairs of 12 questions in {building_s:.0f} s")
    return 0 if num_pairs >= 10 else 1


def align(*words: object, codes: tuple[int, ...] = (0,)) -> None:
    """Run the command; its output goes to stderr, so that stdout is the table."""
    done = subprocess.run([sys.executable, "-m", "align.cli", *map(str, words)], stdout=sys.stderr)
    if done.returncode not in codes:
        raise SystemExit(f"align {' '.join(map(str, words))} ended with {done.returncode}")


if __name__ == "__main__":
    raise SystemExit(main())

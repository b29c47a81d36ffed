"""Table: a comparison on the terminal, worst answers first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from align.evaluation.measures import NUM_CANDIDATES
from align.evaluation.settings import CompareSettings
from align.statistics import Estimate
from align.text.shorten import on_one_line

if TYPE_CHECKING:
    from align.evaluation.arms import Arm
    from align.evaluation.baseline import Baseline
    from align.evaluation.comparison import Comparison
    from align.evaluation.verdict import Verdict

_NUM_WORST = 4


def print_plan(
    arms: Sequence[Arm], num_prompts: int, settings: CompareSettings, smallest: float, baseline: Baseline | None
) -> None:
    """What will be compared, and the smallest difference it can find, before anything is generated."""
    names = " · ".join(arm.name for arm in arms)
    print(f"comparing {names}: {num_prompts} held-out prompts, {settings.samples} answers each")
    print(f"  smallest detectable difference: {smallest:.0%} of answers (80 % power, 95 % intervals)", flush=True)
    if baseline is not None and baseline.flaws:
        Console(highlight=False).print(_indented(baseline.shortcoming))


def print_rates(rates: Mapping[str, Estimate]) -> None:
    """The skill of each arm, as soon as it is known."""
    width = max(map(len, rates))
    for name, rate in rates.items():
        print(f"  {name:<{width}}  {_rate(rate)}", flush=True)


def print_result(result: Comparison, folder: Path) -> None:
    """Arms side by side, the worst answers, the verdict with its reasons."""
    console = Console(highlight=False)
    console.print(_table(result))
    num_candidates = min(NUM_CANDIDATES, len(result.prompts))
    for note in (
        f"relevance: own prompt ranks first among {num_candidates}",
        "distinct-3: over equal numbers of words",
        "general text: nats a token",
        "style strength: how strongly the instruction's style shows (nats), not quality",
    ):
        console.print(note, style="dim")
    _print_worst(console, result)
    name = result.trained
    console.print(f"\n{name} against base: {result.over_base}", markup=False)
    console.print(f"  win rate {_rate(result.wins_over_base)}, a tie counts one half", markup=False)
    if result.baseline is not None:
        console.print(f"{name} against {result.baseline.name}: {result.over_baseline}", markup=False)
    console.print()
    _print_verdict(console, result.verdict, name)
    console.print(f"every answer: {folder / 'comparison' / 'answers.jsonl'}", markup=False)


def _print_verdict(console: Console, verdict: Verdict, name: str) -> None:
    """The word with its interval beside it, then the reasons, indented also where they wrap."""
    word = f"{name} helped" if verdict.word == "helped" else verdict.word
    beside = f"  {verdict.estimate}" if verdict.estimate else ""
    is_bad = verdict.is_damaged or verdict.word.startswith("worse than ")
    colour = "green" if verdict.word == "helped" else "red" if is_bad else "yellow"
    console.print(f"verdict: {word}{beside}", style=f"bold {colour}", markup=False)
    for reason in verdict.reasons:
        console.print(_indented(f"- {reason}"))


def _table(result: Comparison) -> Table:
    table = Table(title="what each arm does on held-out prompts", title_justify="left")
    table.add_column("")
    for arm in result.arms:
        table.add_column(Text(arm.name), justify="right")
    rows = {
        "skill": [f"{result.rates[arm.name].value:.0%}" for arm in result.arms],
        "  95 % interval": [_bounds(result.rates[arm.name]) for arm in result.arms],
        "relevance": [f"{result.measures[arm.name].relevance:.2f}" for arm in result.arms],
        "distinct-3": [f"{result.measures[arm.name].distinct_3:.2f}" for arm in result.arms],
        "words an answer": [f"{result.measures[arm.name].words:.0f}" for arm in result.arms],
        "ended by itself": [f"{result.measures[arm.name].ended:.0%}" for arm in result.arms],
        "general text": [f"{result.measures[arm.name].general_nll:.2f}" for arm in result.arms],
        "style strength": [f"{result.measures[arm.name].style_strength:+.1f}" for arm in result.arms],
    }
    for label, cells in rows.items():
        table.add_row(label, *cells)
    return table


def _print_worst(console: Console, result: Comparison) -> None:
    """First answers of the run, lowest score first, then those that do not belong to their prompt, then the longest."""
    name = result.trained
    scores, relevant, answers = result.scores[name], result.measures[name].relevant, result.answers[name]
    order = sorted(
        range(len(result.prompts)), key=lambda n: (scores[n][0] or 0.0, relevant[n], -len(answers[n][0].text))
    )
    console.print(f"\n{name}: worst answers first", style="bold", markup=False)
    for n in order[:_NUM_WORST]:
        score = scores[n][0]
        flags = [f"skill {score:g}" if score is not None else "not scored"]
        flags += [] if relevant[n] else ["does not belong to its prompt"]
        console.print(_indented(result.prompts[n].messages[-1].content, 2, "bold"))
        console.print(_indented(on_one_line(answers[n][0].text, 300), 4))
        console.print(_indented(f"[{', '.join(flags)}]", 4, "dim"))


def _indented(text: str, columns: int = 2, style: str = "") -> Padding:
    """A paragraph that stays indented where it wraps."""
    return Padding(Text(text, style), (0, 0, 0, columns), expand=False)


def _rate(rate: Estimate) -> str:
    return f"{rate.value:.0%} ({_bounds(rate)})"


def _bounds(rate: Estimate) -> str:
    return f"{rate.low:.0%} to {rate.high:.0%}"

"""Compare: shows on held-out prompts what a training run did, beside what it must be measured against.

Four arms: base · base with the instruction in its prompt (the ceiling) · SFT, or another run as baseline · the run.
Everything lands in `RUN/comparison/`: `answers.jsonl`, `comparison.json`.

    align compare runs/short-dpo
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from align.data.files.rows import read_prompts
from align.data.rows.instruction import Instruction
from align.data.rows.pair import Prompt, as_dicts
from align.errors import ConfigError
from align.evaluation import table
from align.evaluation.arms import Arm, answer
from align.evaluation.baseline import Baseline, TrainedRun, arm_names, flaws
from align.evaluation.comparison import BASE, CEILING, Comparison, conclude
from align.evaluation.measures import measure, skill_scores
from align.evaluation.settings import CompareSettings
from align.settings.base import load_settings
from align.settings.yaml import read_yaml
from align.statistics import clustered_mean, minimum_detectable_effect
from align.store.records import write_json, write_text
from align.teachers.base import Sampling


@dataclass(frozen=True)
class _Plan:
    folder: Path
    settings: CompareSettings
    arms: list[Arm]
    prompts: list[Prompt]
    good: Instruction
    compute: str
    baseline: Baseline | None


def compare(run: str, words: Sequence[str] = ()) -> Comparison:
    """Compare a finished run with its arms, print the result, and write it beside the run.

    Args:
        run: a run folder whose settings have a `compare` section.
        words: `key=value` for that section, `samples=4` for example.

    Raises:
        ConfigError: when the run or its baseline is not finished, or the dataset folder is not a builder's.
    """
    plan = _plan(Path(run), words)
    settings = plan.settings
    smallest = minimum_detectable_effect(len(plan.prompts), settings.samples)
    table.print_plan(plan.arms, len(plan.prompts), settings, smallest, plan.baseline)
    sampling = Sampling(settings.temperature, settings.top_p, settings.max_tokens, settings.seed)
    answers = answer(plan.arms, plan.prompts, sampling, settings.samples, plan.compute, settings.batch_size)
    reward = settings.check.load()
    scores = {arm.name: asyncio.run(skill_scores(reward, plan.prompts, answers[arm.name])) for arm in plan.arms}
    table.print_rates({name: clustered_mean(rows) for name, rows in scores.items()})
    print("  measuring relevance, variety and general text …", flush=True)
    measures = measure(plan.arms, answers, plan.prompts, plan.good, plan.compute)
    result = conclude(plan.arms, plan.prompts, answers, scores, measures, plan.baseline)
    _write(plan.folder, result, settings)
    table.print_result(result, plan.folder)
    return result


def _plan(folder: Path, words: Sequence[str]) -> _Plan:
    run = TrainedRun.read(folder)
    config = read_yaml(str(folder / "config.yaml")).data
    section = config.get("compare") or {}
    settings = load_settings(CompareSettings, None, [*(f"{k}={json.dumps(v)}" for k, v in section.items()), *words])
    dataset = Path(settings.dataset)
    if not (dataset / "heldout.jsonl").exists():
        raise ConfigError(f"compare.dataset: {dataset} must be a folder that a builder wrote, but has no heldout.jsonl")
    prompts = read_prompts(str(dataset / "heldout.jsonl"))
    good = Instruction.model_validate(read_yaml(str(dataset / "builder.yaml")).data.get("good") or {})
    arms = [Arm(BASE, config["model"])]
    if not good.is_empty:
        arms.append(Arm(CEILING, config["model"], good))
    others = [TrainedRun.read(Path(settings.sft))] if settings.sft is not None else []
    *names, name = arm_names([*others, run], (BASE, CEILING))
    arms += [Arm(other_name, str(other.folder)) for other_name, other in zip(names, others, strict=True)]
    arms.append(Arm(name, str(folder)))
    baseline = Baseline(names[0], flaws(run, others[0])) if others else None
    return _Plan(folder, settings, arms, prompts, good, config["compute"], baseline)


def _write(folder: Path, result: Comparison, settings: CompareSettings) -> None:
    target = folder / "comparison"
    target.mkdir(exist_ok=True)
    rows = [
        {
            "prompt": as_dicts(prompt.messages),
            "arm": arm.name,
            "sample": k,
            "answer": completion.text,
            "finish_reason": completion.finish_reason,
            "score": result.scores[arm.name][n][k],
            "own_prompt_ranks_first": result.measures[arm.name].relevant[n] if k == 0 else None,
        }
        for arm in result.arms
        for n, prompt in enumerate(result.prompts)
        for k, completion in enumerate(result.answers[arm.name][n])
    ]
    write_text(target / "answers.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    measures = {name: asdict(one) | {"relevance": one.relevance} for name, one in result.measures.items()}
    summary = {
        "verdict": result.verdict.word,
        "reasons": result.verdict.reasons,
        "rates": {name: asdict(rate) for name, rate in result.rates.items()},
        "over_base": asdict(result.over_base),
        "baseline": asdict(result.baseline) if result.baseline else None,
        "over_baseline": asdict(result.over_baseline) if result.over_baseline else None,
        "win_rate_over_base": asdict(result.wins_over_base),
        "measures": measures,
        "settings": settings.model_dump(mode="json"),
    }
    write_json(target / "comparison.json", summary)

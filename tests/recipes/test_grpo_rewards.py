"""GRPO with the rewards that ask a child process or a teacher: every kind runs in TRL's own event loop."""

from __future__ import annotations

import json
from pathlib import Path

import psutil

from align.data.files.rows import write_rows
from align.data.rows.task import Task
from align.data_builders.reasoning_gym import ReasoningGymBuilder, ReasoningGymSettings
from align.recipes.grpo import GRPORecipe
from align.settings.base import load_settings
from tests.teachers.server import Server, answer


def tasks_file(folder: Path) -> Path:
    words = ["output_dir=unused", "num_tasks=12", "num_heldout=4", "tasks={chain_sum: {max_digits: 1, max_terms: 2}}"]
    made, _ = ReasoningGymBuilder(load_settings(ReasoningGymSettings, None, words)).tasks()
    columns = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    rows = [Task(task.prompt, {**task.columns, **columns}) for task in made]
    write_rows(folder / "tasks.jsonl", rows)
    return folder / "tasks.jsonl"


def test_every_reward_of_a_child_or_a_teacher_scores_in_training(tiny_model, tmp_path):
    def judge(request):
        usage = {"prompt_tokens": 400, "completion_tokens": 9, "total_tokens": 409}
        return answer('{"reason": "always so", "score": 3}', usage=usage)

    names = ("math_answer.MathAnswer", "reasoning.ReasoningGym", "instructions.InstructionsFollowed", "rubric.Rubric")
    with Server(judge) as server:
        arguments = {"teacher": {"model": "m", "base_url": server.url}, "rubric": "Be good."}
        arguments["ledger"] = str(tmp_path / "verdicts.sqlite")
        rewards = [{"use": f"align.rewards.{name}", **(arguments if "Rubric" in name else {})} for name in names]
        recipe = GRPORecipe.from_file(
            None,
            f"model={tiny_model}",
            f"train_data={tasks_file(tmp_path)}",
            f"output_dir={tmp_path / 'run'}",
            "compute=float32",
            f"rewards={json.dumps(rewards)}",
            "trainer={max_steps: 2, num_generations: 4, per_device_train_batch_size: 8, max_completion_length: 4}",
            "trainer.save_strategy='no'",
            "trainer.logging_steps=1",
        )
        assert recipe.run()["steps"] == 2
        assert server.requests
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    row = next(row for row in rows if "rewards/Rubric/mean" in row)
    assert row["rewards/Rubric/mean"] == 3.0
    for name in ("MathAnswer", "ReasoningGym", "InstructionsFollowed"):
        assert 0.0 <= row[f"rewards/{name}/mean"] <= 1.0 and row[f"{name}/no_score"] == 0.0
    del recipe
    assert not [one for one in psutil.Process().children() if one.status() == psutil.STATUS_ZOMBIE]

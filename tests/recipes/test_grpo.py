"""GRPO: what must hold for every run, on a two-layer model in float32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from align.data.files.rows import write_rows
from align.data.rows.pair import Message
from align.data.rows.task import Task
from align.errors import ConfigError, DataError
from align.recipes.grpo import GRPORecipe, is_generation_boundary
from align.recipes.settings.grpo import LOSSES, GRPOSettings
from align.recipes.sft import SFTRecipe
from align.rewards.base import completion_text
from align.settings.base import load_settings
from align.settings.passthrough import _package_folder
from align.store.records import read_json
from tests.recipes.conftest import pair
from tests.recipes.test_dpo import LORA, final_weights, metrics

HERE = "tests.recipes.test_grpo"


def letters(prompts, completions, **columns):
    """Share of characters in the first half of the alphabet; quick to learn by a random model."""
    texts = [completion_text(completion) for completion in completions]
    return [sum("a" <= letter <= "m" for letter in text) / max(len(text), 6) for text in texts]


async def async_letters(prompts, completions, **columns):
    return letters(prompts, completions)


def broken(prompts, completions, **columns):
    raise ZeroDivisionError("in the reward")


def greets(prompts, completions, answer, greeting="hello", **columns):
    """None for every second row; checks that columns and keyword arguments arrive as they were written."""
    assert greeting == "hi" and all(isinstance(one, int) for one in answer)
    return [None if one % 2 else 1.0 for one in answer]


def task(number: int, question: str = "question") -> Task:
    return Task((Message("user", f"{question} {number}?"),), {"answer": number, "meta": {"n": [number]}})


@pytest.fixture
def tasks_file(tmp_path: Path) -> str:
    write_rows(tmp_path / "tasks.jsonl", [task(number) for number in range(16)])
    return str(tmp_path / "tasks.jsonl")


@pytest.fixture
def heldout_file(tmp_path: Path) -> str:
    """Prompts of different lengths, more of them than fit into one batch, the last batch not full."""
    write_rows(tmp_path / "heldout.jsonl", [task(n, "what about " + "very " * (n % 4)) for n in range(19)])
    return str(tmp_path / "heldout.jsonl")


@pytest.fixture
def words(tiny_model: str, tasks_file: str, tmp_path: Path) -> list[str]:
    """Settings of a run of two steps in float32."""
    return [
        f"model={tiny_model}",
        f"train_data={tasks_file}",
        f"output_dir={tmp_path / 'run'}",
        "compute=float32",
        f"rewards=[{{use: {HERE}.letters}}]",
        "trainer={max_steps: 2, logging_steps: 1, learning_rate: 1e-2, per_device_train_batch_size: 16}",
        "trainer.num_generations=4",
        "trainer.max_completion_length=6",
        "trainer.gradient_checkpointing=false",
        "trainer.save_strategy='no'",
    ]


def run(words, *more, recipe_class=GRPORecipe) -> dict[str, Any]:
    return recipe_class.from_file(None, *words, *more).run()


def logged(folder: Path, name: str) -> list[float]:
    return [row[name] for row in metrics(folder) if name in row]


def test_training_raises_the_sampled_and_the_greedy_reward(words, tmp_path, heldout_file, capsys):
    result = run(words, f"eval_data={heldout_file}", "trainer.max_steps=15", "trainer.per_device_train_batch_size=64")
    rewards = logged(tmp_path / "run", "reward")
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.2
    assert result["heldout_after"]["reward"] > result["heldout_before"]["reward"] + 0.2
    before, after = (result[f"heldout_{when}"]["letters"] for when in ("before", "after"))
    assert f"held-out (greedy): {before:.2f} -> {after:.2f} on 19 prompts" in capsys.readouterr().out
    assert read_json(tmp_path / "run" / "result.json")["heldout_after"] == result["heldout_after"]


def test_held_out_answers_are_those_of_one_prompt_alone(words, heldout_file):
    from align.training.grpo.greedy import _answers

    trainer = GRPORecipe.from_file(None, *words, f"eval_data={heldout_file}").prepare()
    prompts = [row["prompt"] for row in trainer.eval_dataset]
    tokenizer, model = trainer.processing_class, trainer.model
    for prompt, (ids, messages) in zip(prompts, _answers(trainer, prompts), strict=True):
        inputs = tokenizer.apply_chat_template(
            [prompt], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        alone = model.generate(**inputs, max_new_tokens=6, do_sample=False)[0, inputs["input_ids"].size(1) :].tolist()
        assert alone == ids
        assert messages == [{"role": "assistant", "content": tokenizer.decode(ids, skip_special_tokens=True)}]


def test_measuring_does_not_change_the_training(words, tmp_path, heldout_file):
    run(words, f"output_dir={tmp_path / 'one'}")
    run(words, f"output_dir={tmp_path / 'two'}", f"eval_data={heldout_file}")
    one, two = final_weights(tmp_path / "one"), final_weights(tmp_path / "two")
    assert one and all(torch.equal(one[name], two[name]) for name in one)


def test_lora_leaves_the_base_alone_and_has_it_as_reference(words, tmp_path, capsys):
    result = run(words, LORA, "trainer.beta=0.1")
    assert result["frozen_weights_moved"] == 0
    assert "adapter switched off" in result["reference"]
    kl = logged(tmp_path / "run", "kl")
    assert kl[0] == pytest.approx(0, abs=1e-7) and kl[1] > 1e-6
    assert "use_bias_correction_kl True" in capsys.readouterr().out and result["use_bias_correction_kl"] is True


def test_full_training_starts_from_its_reference(words, tmp_path):
    result = run(words, "trainer.beta=0.1")
    assert "a frozen copy of the model" in result["reference"]
    assert logged(tmp_path / "run", "kl")[0] == pytest.approx(0, abs=1e-7)


def test_an_adapter_is_trained_on_with_itself_as_reference(words, tmp_path, tiny_model):
    write_rows(tmp_path / "pairs.jsonl", [pair(number) for number in range(16)])
    sft = [f"model={tiny_model}", f"train_data={tmp_path / 'pairs.jsonl'}", f"output_dir={tmp_path / 'sft'}"]
    run(sft, LORA, "trainer={max_steps: 2, learning_rate: 1e-2}", recipe_class=SFTRecipe)
    result = run(words, f"model={tmp_path / 'sft'}", "trainer.beta=0.1")
    assert "a frozen copy of the adapter" in result["reference"]
    kl = logged(tmp_path / "run", "kl")
    assert kl[0] == pytest.approx(0, abs=1e-7) and kl[1] > 1e-6
    assert set(final_weights(tmp_path / "run")) == set(final_weights(tmp_path / "sft"))


def test_without_beta_the_plan_says_that_there_is_no_reference(words, capsys):
    assert run(words)["reference"] == "none (beta is 0)"
    shown = capsys.readouterr().out
    assert "reference: none (beta is 0)" in shown
    assert "loss_type dapo, beta 0.0, scale_rewards group, num_generations 4" in shown
    assert "one generation: 4 prompts × 4 completions" in shown


def test_rewards_get_columns_and_arguments_and_have_names_and_weights(words, tmp_path, heldout_file):
    rewards = f"rewards=[{{use: {HERE}.greets, greeting: hi, weight: 2}}, {{use: {HERE}.letters, weight: 0}}]"
    result = run(words, rewards, f"eval_data={heldout_file}")
    row = metrics(tmp_path / "run")[0]
    assert {"rewards/greets/mean", "rewards/letters/mean"} <= row.keys()
    assert result["heldout_before"]["greets"] == 1.0  # over the rows that have a score
    assert result["rewards"] == "greets × 2, letters × 0"


def test_our_text_rewards_work_and_get_distinct_names(words, tmp_path):
    contains = "{use: align.rewards.text.Contains, words: [a]}"
    run(words, f"rewards=[{contains}, {contains}, {{use: align.rewards.text.ShortSentence}}]")
    names = {f"rewards/{name}/mean" for name in ("Contains", "Contains_2", "ShortSentence")}
    assert names <= metrics(tmp_path / "run")[0].keys()


def test_an_async_reward_scores_what_the_plain_one_does(words, tmp_path, heldout_file):
    results = [
        run(words, f"rewards=[{{use: {HERE}.{n}}}]", f"output_dir={tmp_path / n}", f"eval_data={heldout_file}")
        for n in ("letters", "async_letters")
    ]
    assert logged(tmp_path / "letters", "reward") == logged(tmp_path / "async_letters", "reward")
    assert results[0]["heldout_after"]["reward"] == results[1]["heldout_after"]["reward"]


def test_a_reward_that_raises_stops_the_run_by_name(words, tmp_path, capsys):
    assert GRPORecipe.main([*words, f"rewards=[{{use: {HERE}.broken}}]"]) == 2
    assert "reward broken: raised ZeroDivisionError: in the reward (" in capsys.readouterr().err
    assert read_json(tmp_path / "run" / "exit.json")["code"] == 2


def test_a_reward_that_is_not_there_is_found_before_the_model_is_loaded(words):
    with pytest.raises(ConfigError, match="did you mean letters"):
        run(words, f"rewards=[{{use: {HERE}.leters}}]", "model=no/such-model-is-ever-looked-up", recipe_class=Unloaded)


class Unloaded(GRPORecipe):
    """A recipe whose model must not be touched."""

    def run(self) -> Any:
        return self.build_trainer()


def test_a_file_of_pairs_will_do(words, tmp_path):
    write_rows(tmp_path / "pairs.jsonl", [pair(number) for number in range(16)])
    assert run(words, f"train_data={tmp_path / 'pairs.jsonl'}")["rows"] == 16


def test_prompts_without_room_for_a_completion_are_refused_by_name_or_dropped(words, tmp_path, tasks_file):
    write_rows(tasks_file, [*(task(n) for n in range(8)), task(9, "long " * 250)])
    expected = r"1 of 9 prompts leave no room for trainer.max_completion_length=6 .*context of 1024: .*tasks.jsonl:9 \("
    with pytest.raises(DataError, match=expected):
        run(words)
    result = run(words, "data.on_bad_rows=drop")
    assert (result["rows"], result["rows_too_long"]) == (8, 1)


def test_fewer_prompts_than_one_generation_takes_are_refused(words, tasks_file):
    write_rows(tasks_file, [task(n) for n in range(3)])
    with pytest.raises(ConfigError, match="one generation takes 4 prompts, but there are 3"):
        run(words)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("trainer.num_generations=5", r"5 must divide the 16 completions .*_batch_size 16 × 1 processes × .* 1\)"),
        ("trainer.num_generations=1", "must be 2 or more"),
        ("trainer.generation_batch_size=24", "must be a multiple of the 16 completions of a step"),
        ("trainer={steps_per_generation: 2, generation_batch_size: 16}", "say the same thing; keep one"),
        ("trainer.reward_weights=[1.0]", "set weight: beside use:"),
        ("trainer.loss_type=dapoo", "'dapoo' is not a GRPO loss of TRL's; did you mean dapo?"),
        ("trainer.sapo_temperature_pos=1.0", "TRL ignores it unless loss_type is 'sapo'"),
        ("trainer.use_bias_correction_kl=false", "TRL ignores it while beta is 0"),
        ("trainer.entropy_target=1.0", "TRL ignores it unless use_adaptive_entropy is True"),
        ("trainer.vllm_mode=server", "TRL ignores it unless use_vllm is true"),
        ("trainer.use_vllm=true", "run: pip install vllm"),
        ("trainer.remove_unused_columns=true", "the rewards would get no columns"),
        ("trainer.temperature=0.0", "must be above 0"),
        ("trainer.max_completion_length=null", "must be a number of tokens"),
        ("trainer.num_generations_eval=4", "unless eval_strategy is set"),
        ("rewards=[]", "rewards must"),
        ("rewards=[{use: x.y, weight: heavy}]", "rewards.0.weight must"),
    ],
)
def test_what_trl_would_ignore_or_trip_over_is_refused(words, word, expected):
    with pytest.raises(ConfigError, match=expected):
        load_settings(GRPOSettings, None, [*words, word])


def test_batching_that_would_round_the_weights_is_refused(words):
    with pytest.raises(ConfigError, match="too coarse"):
        load_settings(
            GRPOSettings, None, [*words, "compute=bfloat16", "trainer.use_transformers_continuous_batching=true"]
        )


def test_scale_rewards_may_be_false(words):
    load_settings(GRPOSettings, None, [*words, "trainer.scale_rewards=false", "trainer.temperature=0.7"])


def test_every_loss_of_trl_is_known():
    source = (_package_folder("trl") / "trainer" / "grpo_trainer.py").read_text()
    start = source.index('if self.loss_type in ["grpo", "sapo"]')
    branch = source[start : source.index("Unknown loss type", start)]
    lines = [line for line in branch.splitlines() if "if self.loss_type" in line]
    assert {name for line in lines for name in line.split('"')[1::2]} == set(LOSSES)


class Boundaries(GRPORecipe):
    """Notes after each step whether it is a boundary, and keeps TRL's checkpoints."""

    def build_trainer(self):
        from transformers import TrainerCallback

        self.seen = seen = []
        trainer = super().build_trainer()

        class Note(TrainerCallback):
            def on_step_end(self, args, state, control, **kwargs):
                seen.append(is_generation_boundary(trainer))

        trainer.add_callback(Note())
        return trainer


def test_a_boundary_is_where_the_next_step_samples(words):
    more = ["trainer.steps_per_generation=2", "trainer.num_iterations=2", "trainer.max_steps=8"]
    recipe = Boundaries.from_file(None, *words, *more)
    recipe.prepare().train()
    assert recipe.seen == [False, False, False, True] * 2


def test_a_trainer_restarted_at_a_boundary_within_an_epoch_is_bit_identical(words, tmp_path):
    """In a later epoch TRL's sampler begins anew; `align.training.loop.resume_state` takes care of that."""
    more = ["trainer.steps_per_generation=2", "trainer.max_steps=6", "trainer.save_strategy=steps", LORA]
    more += ["trainer.save_steps=2", "trainer.learning_rate=1e-3"]
    whole, rest = (GRPORecipe.from_file(None, *words, *more, f"output_dir={tmp_path / n}") for n in ("a", "b"))
    first = whole.prepare()
    first.train()
    second = rest.prepare()
    second.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoints" / "checkpoint-2"))
    for one, other in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(one, other)
    shown = [{k: v for k, v in row.items() if "time" not in k} for row in first.state.log_history[2:6]]
    assert shown == [{k: v for k, v in row.items() if "time" not in k} for row in second.state.log_history[2:6]]


def test_columns_are_rows_of_json(words, tmp_path):
    dataset = GRPORecipe.from_file(None, *words).dataset("train")
    assert json.loads(dataset[3]["columns"]) == {"answer": 3, "meta": {"n": [3]}}
    assert dataset[3]["prompt"] == [{"role": "user", "content": "question 3?"}]

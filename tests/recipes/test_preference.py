"""Our path of DPO: the same numbers as TRL's trainer, whatever the forward, the cut of the batch and the rows' form."""

from __future__ import annotations

import itertools
import json
import sqlite3
from array import array
from contextlib import closing
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from align.data.files.rows import write_rows
from align.data.rows.pair import Candidate, Group, Message, PreferencePair
from align.errors import ConfigError, DataError
from align.recipes.dpo import DPORecipe
from tests.recipes.conftest import pair
from tests.recipes.launching import LORA, metrics
from tests.training import trees

NOT_COMPARED = {"attempt", "time", "step", "epoch", "learning_rate"}


class StockRecipe(DPORecipe):
    """Runs TRL's own trainer."""

    needs_trl_path = ("a test compares with it",)


def rows_of(recipe_class, words, tmp_path, *more):
    folder = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
    recipe_class.from_file(None, *words, f"output_dir={folder}", *more).run()
    return metrics(folder)


def assert_equal(found, expected, tolerance=1e-5):
    """Every metric of TRL's in every row: absolute, and relative for numbers above 1."""
    assert len(found) == len(expected) > 0
    for mine, theirs in zip(found, expected, strict=True):
        names = theirs.keys() - NOT_COMPARED
        assert names <= mine.keys() and {"loss", "grad_norm", "logps/chosen", "entropy", "num_tokens"} <= names
        assert {name: mine[name] for name in names} == pytest.approx(
            {name: theirs[name] for name in names}, abs=tolerance, rel=tolerance
        )


@pytest.fixture
def ragged(words, pairs_file):
    """Pairs of very different lengths, a prompt of one word among them."""
    rows = [
        PreferencePair(
            (Message("user", "why " * (1 + 7 * number % 40)),),
            (Message("assistant", "since " * (1 + 5 * number % 23)),),
            (Message("assistant", "no " * (2 + 11 * number % 31)),),
            {"margin": 0.5 + number},
        )
        for number in range(16)
    ]
    write_rows(pairs_file, rows)
    return words


LOSSES = {
    "sigmoid": [],
    "sum": ["trainer.loss_type=[sigmoid, sft]", "trainer.loss_weights=[0.3, 1.0]"],
    "ipo": ["trainer.loss_type=ipo"],
    "robust": ["trainer.loss_type=robust", "trainer.label_smoothing=0.2"],
    "apo_zero": ["trainer.loss_type=apo_zero"],
    "sigmoid_norm": ["trainer.loss_type=sigmoid_norm", "trainer.beta=0.5"],
    "ld_alpha": ["trainer.ld_alpha=0.4"],
    "wpo": ["trainer.use_weighting=true"],
    "sft": ["trainer.loss_type=sft"],
}


@pytest.fixture
def against_another(ragged, tiny_model, tmp_path):
    """A reference that is not the policy, so that the first step's rewards are not zero."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        for weight in model.parameters():
            weight.add_(0.01 * torch.randn_like(weight))
    model.save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "other")
    return [*ragged, f"reference={tmp_path / 'other'}", "trainer.max_steps=1"]


@pytest.mark.parametrize("forward", ["tree", "padded"])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_first_step_logs_what_trl_logs(against_another, tmp_path, loss, forward):
    words = [*against_another, *LOSSES[loss]]
    expected = rows_of(StockRecipe, words, tmp_path)
    assert loss == "sft" or abs(expected[0]["rewards/margins"]) > 1e-3
    if loss == "sft":  # TRL computes rewards against a reference that the loss does not have
        expected = [{name: row[name] for name in row if not name.startswith("rewards/")} for row in expected]
    assert_equal(rows_of(DPORecipe, words, tmp_path, f"forward={forward}"), expected)


@pytest.mark.parametrize("kind", ["full", "lora", "checkpointing", "precomputed"])
def test_so_do_the_next_steps(ragged, tmp_path, kind):
    more = {"lora": [LORA], "checkpointing": ["trainer.gradient_checkpointing=true"]}
    more["precomputed"] = ["trainer.precompute_ref_log_probs=true"]
    words = [*ragged, *more.get(kind, []), "trainer.max_steps=3", "trainer.learning_rate=1e-5"]
    found = rows_of(DPORecipe, words, tmp_path, "forward=tree")
    assert_equal(found, rows_of(StockRecipe, words, tmp_path), tolerance=1e-4)  # Adam makes noise into steps


@pytest.mark.parametrize("name", trees.SHAPES)
def test_the_first_step_of_each_architecture_equals_trls(ragged, tiny_model, tmp_path, name):
    folder = tmp_path / "models" / name
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    shape = {"vocab_size": len(tokenizer), "max_position_embeddings": 1024, **ids}
    trees.model(name, **shape, pad_token_id=tokenizer.pad_token_id).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    words = [*ragged, f"model={folder}", "trainer.max_steps=1"]
    assert_equal(rows_of(DPORecipe, words, tmp_path, "forward=tree"), rows_of(StockRecipe, words, tmp_path))


_ACCUMULATED = ["trainer.per_device_train_batch_size=2", "trainer.gradient_accumulation_steps=4"]
CUTS = {
    "accumulated": _ACCUMULATED,
    "tree in several forwards": ["forward=tree", "tokens_per_forward=700"],
    "padded in several forwards": ["forward=padded", "tokens_per_forward=1500"],
    "both": [
        "tokens_per_forward=500",
        "trainer.per_device_train_batch_size=4",
        "trainer.gradient_accumulation_steps=2",
    ],
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("loss", ["sigmoid", "sum"])
def test_however_a_batch_is_cut_the_step_is_the_same(ragged, tmp_path, loss, cut):
    words = [*ragged, *LOSSES[loss], "trainer.max_steps=2", "trainer.per_device_train_batch_size=8"]
    whole, parts = rows_of(DPORecipe, words, tmp_path), rows_of(DPORecipe, words, tmp_path, *CUTS[cut])
    assert_equal(parts, whole, tolerance=5e-6)


def test_trl_averages_sft_over_micro_batches_and_we_over_tokens(ragged, tmp_path):
    words = [*ragged, "trainer.loss_type=sft", "trainer.max_steps=1", "trainer.per_device_train_batch_size=8"]
    cut = CUTS["accumulated"]
    ours = [rows_of(DPORecipe, words, tmp_path, *more)[0]["loss"] for more in ([], cut)]
    theirs = [rows_of(StockRecipe, words, tmp_path, *more)[0]["loss"] for more in ([], cut)]
    assert ours[0] == pytest.approx(ours[1], rel=5e-6) and theirs[0] != pytest.approx(theirs[1], rel=1e-4)


def test_an_evaluation_does_not_depend_on_its_batch_size(ragged, pairs_file, tmp_path):
    words = [*ragged, f"eval_data={pairs_file}", *LOSSES["sum"], "trainer.max_steps=1", "trainer.eval_strategy=steps"]
    folders = [tmp_path / str(size) for size in (16, 3)]
    for folder, size in zip(folders, (16, 3), strict=True):
        more = [f"trainer.per_device_eval_batch_size={size}", "trainer.eval_steps=1", f"output_dir={folder}"]
        DPORecipe.from_file(None, *words, *more).run()
    first, second = (evaluations(folder) for folder in folders)
    assert first["eval_loss"] == pytest.approx(second["eval_loss"], rel=1e-6)
    assert first["eval_rewards/margins"] == pytest.approx(second["eval_rewards/margins"], abs=1e-6)


def evaluations(folder: Path):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    (found,) = [row for row in rows if "eval_loss" in row]
    return found


def group(number: int, count: int) -> Group:
    answers = [Message("assistant", f"answer {index} " * (1 + (index * number) % 5)) for index in range(count)]
    scores = [float((7 * index + number) % count) for index in range(count)]
    candidates = tuple(Candidate((answer,), score) for answer, score in zip(answers, scores, strict=True))
    return Group((Message("user", f"question {number}? " * number),), candidates, {})


def as_pairs(one: Group, gap: float = 0.0):
    for first, second in itertools.combinations(one.candidates, 2):
        better, worse = (first, second) if first.score > second.score else (second, first)
        if better.score - worse.score > gap:
            yield PreferencePair(one.prompt, better.messages, worse.messages, {})


@pytest.mark.parametrize(
    ("forward", "count", "gap"),
    [("tree", 2, 0.0), ("tree", 4, 0.0), ("padded", 4, 0.0), ("tree", 4, 1.5), ("tree", 8, 1.5)],
)
def test_a_group_is_worth_its_pairs_one_by_one(words, tmp_path, forward, count, gap):
    groups = [group(1, count), group(2, count)]
    pairs = [each for one in groups for each in as_pairs(one, gap)]
    write_rows(tmp_path / "groups.jsonl", groups)
    write_rows(tmp_path / "singles.jsonl", pairs)
    words = [*words, "trainer.max_steps=2", "trainer.loss_type=[sigmoid, sft]", f"forward={forward}"]
    more = [f"train_data={tmp_path / 'groups.jsonl'}", "trainer.per_device_train_batch_size=2"]
    found = rows_of(DPORecipe, words, tmp_path, *more, f"data.least_score_gap={gap}")
    more = [f"train_data={tmp_path / 'singles.jsonl'}", f"trainer.per_device_train_batch_size={len(pairs)}"]
    assert_equal(found, rows_of(DPORecipe, words, tmp_path, *more))


def test_groups_without_a_pair_are_refused_or_dropped(words, tmp_path):
    equal = Group(
        (Message("user", "a?"),), tuple(Candidate((Message("assistant", text),), 1.0) for text in ("b", "c")), {}
    )
    write_rows(tmp_path / "groups.jsonl", [group(1, 4), equal])
    words = [*words, f"train_data={tmp_path / 'groups.jsonl'}", "trainer.per_device_train_batch_size=1"]
    with pytest.raises(DataError, match=r"groups.jsonl:2: a group must have two candidates whose scores differ"):
        DPORecipe.from_file(None, *words).run()
    result = DPORecipe.from_file(None, *words, "data.on_bad_rows=drop", f"output_dir={tmp_path / 'other'}").run()
    assert result["rows_dropped"] == {"no_pair": 1}


def test_losses_that_trl_lacks_train_without_a_reference(ragged, tmp_path):
    for loss in ("{type: simpo, simpo_gamma_beta_ratio: 0.5}", "{type: orpo}", "{type: [cpo, sft], weights: [1, 0.5]}"):
        folder = tmp_path / loss[7:10].strip("[ ")
        more = [f"loss={loss}", "trainer.beta=2.0", f"output_dir={folder}", "trainer.learning_rate=1e-3"]
        recipe = DPORecipe.from_file(None, *ragged, *more, "trainer.max_steps=6")
        result = recipe.run()
        assert result["reference"] == "none"
        assert result["loss"]["losses"][0]["type"] in loss
        losses = [row["loss"] for row in metrics(folder)]
        assert losses[-1] < losses[0]


def test_label_smoothing_and_margins_change_the_loss(ragged, tmp_path):
    plain = rows_of(DPORecipe, ragged, tmp_path, "trainer.max_steps=3")
    smooth = rows_of(DPORecipe, ragged, tmp_path, "trainer.max_steps=3", "trainer.label_smoothing=0.3")
    margin = rows_of(DPORecipe, ragged, tmp_path, "trainer.max_steps=3", "loss.margin={scale: 0.1, of: difference}")
    assert smooth[0]["loss"] == pytest.approx(plain[0]["loss"], abs=1e-6)  # log 2 either way
    assert smooth[2]["loss"] > plain[2]["loss"] + 1e-4
    assert margin[0]["loss"] > plain[0]["loss"] + 1e-2


def test_margins_without_scores_are_refused(words):
    with pytest.raises(DataError, match=r"loss\.margin: each row must have a score for both sides"):
        DPORecipe.from_file(None, *words, "loss.margin={scale: 0.1, of: difference}").run()


def test_what_only_trl_does_and_what_only_we_do_cannot_be_had_together(words, tmp_path):
    with pytest.raises(ConfigError, match="only TRL's path does it; but forward: tree: TRL pads"):
        DPORecipe.from_file(None, *words, "trainer.sync_ref_model=true", "forward=tree").run()


def test_what_only_trl_does_runs_there_and_says_so(words, capsys):
    result = DPORecipe.from_file(None, *words, "trainer.loss_type=nca_pair").run()
    assert result["path"] == "TRL"
    assert "path: TRL, since trainer.loss_type: nca_pair: runs as TRL has it" in capsys.readouterr().out


def test_the_forward_is_printed_and_recorded(words, capsys):
    result = DPORecipe.from_file(None, *words).run()
    printed = capsys.readouterr().out
    assert "path: align" in printed and f"  {result['path']}" in printed
    assert result["path"].startswith("forward: tree (") and result["loss"]["beta"] == 0.1


@pytest.fixture
def cached(ragged, monkeypatch, tmp_path):
    """Reference log-probs before training, kept in a folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return [*ragged, "trainer.precompute_ref_log_probs=true", "trainer.max_steps=2"]


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "align" / "reference_logps").iterdir())


def test_a_second_run_asks_the_reference_for_what_is_new_only(cached, pairs_file, tmp_path, capsys):
    first = rows_of(DPORecipe, cached, tmp_path)
    assert "0 of 32 completions from the cache" in capsys.readouterr().out
    assert_equal(first, rows_of(DPORecipe, cached[:-2], tmp_path, "trainer.max_steps=2"))  # scored as it went
    capsys.readouterr()
    assert rows_of(DPORecipe, cached, tmp_path, "trainer.seed=3", "trainer.beta=0.3")
    assert "32 of 32 completions from the cache" in capsys.readouterr().out
    rows = Path(pairs_file).read_text()
    write_rows(tmp_path / "more.jsonl", [pair(number) for number in range(2)])
    Path(pairs_file).write_text(rows + (tmp_path / "more.jsonl").read_text())
    rows_of(DPORecipe, cached, tmp_path)
    assert "32 of 36 completions from the cache" in capsys.readouterr().out
    assert len(files(tmp_path)) == 1


def test_another_model_another_arithmetic_and_another_route_have_caches_of_their_own(cached, tmp_path, tiny_model):
    rows_of(DPORecipe, cached, tmp_path)
    rows_of(DPORecipe, cached, tmp_path, "compute=bfloat16")
    rows_of(DPORecipe, cached, tmp_path, "forward=padded")
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    with torch.no_grad():
        next(model.parameters()).mul_(1.5)
    model.save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "other")
    rows_of(DPORecipe, cached, tmp_path, f"model={tmp_path / 'other'}")
    assert len(files(tmp_path)) == 4


def test_a_cache_that_is_damaged_or_of_another_model_is_said_and_not_used(cached, tmp_path, capsys):
    expected = rows_of(DPORecipe, cached, tmp_path)
    (file,) = files(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert_equal(rows_of(DPORecipe, cached, tmp_path), expected)
    assert "cannot be read" in capsys.readouterr().out
    file.write_bytes(whole)
    with closing(sqlite3.connect(file)) as database, database:
        for key, logps in database.execute("SELECT key, logps FROM completions").fetchall():
            wrong = array("f", [logp - 1 for logp in array("f", logps)]).tobytes()
            database.execute("UPDATE completions SET logps = ? WHERE key = ?", (wrong, key))
    assert_equal(rows_of(DPORecipe, cached, tmp_path), expected)
    assert "differs by 1 nats a token from the reference; all is scored anew" in capsys.readouterr().out

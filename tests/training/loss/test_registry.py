"""Loss options: every argument and every loss that the installed TRL has is in exactly one list."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from align.errors import ConfigError
from align.recipes.settings.common import OWNED_ARGUMENTS
from align.settings.passthrough import DPO_CONFIG
from align.training.loss import registry as loss_options
from align.training.loss.registry import (
    LOSSES_TRL_LACKS,
    OUR_LOSSES,
    OURS,
    REFUSED,
    TRL_LOSSES,
    TRL_PATH,
    check_batch_is_whole,
    needs_our_path,
    needs_trl_path,
)

TRAINER = Path(find_spec("trl").submodule_search_locations[0]) / "trainer" / "dpo_trainer.py"


def arguments(package):
    """DPOConfig's arguments that are declared in one package."""
    return replace(DPO_CONFIG, sources=tuple(s for s in DPO_CONFIG.sources if s[0] == package)).arguments()


def test_every_argument_that_trl_adds_is_in_exactly_one_list():
    listed = [*OURS, *TRL_PATH, *REFUSED]
    assert sorted(listed) == sorted(arguments("trl").keys() - arguments("transformers").keys())


def test_every_loss_that_trl_computes_is_in_exactly_one_list():
    known = {
        node.comparators[0].value
        for node in ast.walk(ast.parse(TRAINER.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare) and ast.unparse(node.left) == "loss_type"
        if isinstance(node.comparators[0], ast.Constant)
    }
    assert sorted(known) == sorted([*OUR_LOSSES, *TRL_LOSSES])
    assert not LOSSES_TRL_LACKS & known


def test_the_values_that_ask_for_nothing_include_trls_default():
    source = ast.parse((TRAINER.parent / "dpo_config.py").read_text(encoding="utf-8"))
    (config,) = [node for node in source.body if isinstance(node, ast.ClassDef)]
    defaults = {
        node.target.id: ast.literal_eval(word.value)
        for node in config.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Call)
        for word in node.value.keywords
        if word.arg == "default"
    }
    for name, (neutral, _) in TRL_PATH.items():
        assert defaults[name] in neutral, name


def test_reasons_agree_with_those_of_the_recipe():
    for name in REFUSED.keys() & OWNED_ARGUMENTS.keys():
        assert REFUSED[name] == OWNED_ARGUMENTS[name]


def test_trls_path_is_asked_for_by_its_losses_and_by_its_arguments_only_at_other_values():
    assert needs_trl_path({"loss_type": "sigmoid", "beta": 0.1, "sync_ref_model": False, "max_steps": 3}) == []
    assert needs_trl_path({"loss_type": ["sigmoid", "aot"], "sync_ref_model": True}) == [
        "trainer.loss_type: aot: sorts the batch, so it cannot be computed pair by pair",
        "trainer.sync_ref_model: True: the reference moves during training",
    ]


@pytest.mark.parametrize(
    ("trainer", "loss"),
    [
        ({}, {"type": "simpo"}),
        ({"label_smoothing": 0.1}, {}),
        ({"label_smoothing": 0.1, "loss_type": ["sigmoid_norm", "robust"]}, {}),
        ({"loss_type": "ipo"}, {"ipo_reduction": "sum"}),
        ({"ld_alpha": 0.5}, {"ld_alpha_on": "policy"}),
        ({"use_weighting": True}, {"wpo_clamp": "one"}),
        ({"use_weighting": True, "loss_type": ["sigmoid", "sft"]}, {}),
        ({"use_weighting": True, "loss_type": "hinge"}, {}),
        ({}, {"margin": {"scale": 1.0}}),
    ],
)
def test_our_path_is_asked_for_where_trl_would_not_do_it(trainer, loss):
    assert len(needs_our_path(trainer, loss)) == 1


@pytest.mark.parametrize(
    ("trainer", "loss"),
    [
        ({}, {}),
        ({"label_smoothing": 0.1, "loss_type": "robust"}, {}),
        ({"loss_type": "ipo"}, {"ipo_reduction": "mean"}),
        ({"ld_alpha": 0.5, "use_weighting": True}, {"ld_alpha_on": "both", "wpo_clamp": "none"}),
    ],
)
def test_our_path_is_not_asked_for_where_trl_does_the_same(trainer, loss):
    assert needs_our_path(trainer, loss) == []


@pytest.mark.parametrize(("steps", "ranks"), [(2, 1), (1, 2)])
def test_a_loss_that_sorts_the_batch_is_refused_when_the_batch_is_cut(steps, ranks):
    sentence = f"aot sorts the batch, .* cut in {steps} micro-batches on {ranks} ranks"
    with pytest.raises(ConfigError, match=sentence):
        check_batch_is_whole(["sigmoid", "aot"], steps, ranks)
    check_batch_is_whole(["sigmoid", "aot"], 1, 1)
    check_batch_is_whole(["sigmoid", "sft"], steps, ranks)


def test_settings_of_losses_load_nothing_heavy():
    code = (
        "import sys; import align.training.loss.mistakes, align.training.loss.objective; "
        "assert not {'torch', 'transformers', 'trl'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert "torch" not in vars(loss_options)

"""Verify: passes on a sound machine, and ends with exit code 8 where a loss, a route or the comparison is broken."""

from __future__ import annotations

import json
import subprocess
import sys

import peft
import pytest
import torch
import transformers

from align.errors import ConfigError, RefusedError
from align.training.loss import with_reference as losses
from align.training.step.verified import Machine, verified
from align.training.verify import model as verify_model
from align.training.verify.finding import Finding
from align.training.verify.losses import AGAINST_REFERENCE, ONLY_ON_TRLS_PATH, WITHOUT_REFERENCE, check_losses
from align.training.verify.routes import sees_sibling
from align.training.verify.verify import verify
from align.tree.dense import dense_attention
from align.tree.grouped import grouped_attention
from tests.training import trees
from tests.training.loss.pairs_of_logps import GOLDEN

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the claims are those of a CPU")


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_a_sound_model_passes_and_is_recorded(tiny_model, tmp_path, capsys, compute):
    found = verify(tiny_model, compute, records=tmp_path)
    printed = capsys.readouterr().out
    assert f"all {len(found.findings)} checks passed" in printed
    assert printed.count("\n  ok ") == len(found.findings) and "FAILED" not in printed
    config = transformers.AutoConfig.from_pretrained(tiny_model)
    assert verified(config, Machine.of("cpu"), compute, records=tmp_path) is None
    recorded = json.loads(found.record.read_text(encoding="utf-8"))
    assert recorded["facts"]["torch"] == torch.__version__
    assert (recorded["facts"]["heads"], recorded["facts"]["key_heads"]) == (4, 2)
    assert len(recorded["measured"]["findings"]) == len(found.findings)
    assert recorded["measured"]["varlen"] == "no kernel: varlen attention runs on CUDA, not on cpu"
    assert f"  varlen: {recorded['measured']['varlen']}\n" in printed


def test_every_claim_has_its_line(tiny_model, tmp_path):
    names = {finding.name for finding in verify(tiny_model, "bfloat16", records=tmp_path).findings}
    kinds = ("float32", "autocast to bfloat16", "bfloat16 weights")
    assert names == {
        "golden losses",
        "swap symmetry",
        "log 2",
        "identical sides",
        "invariance",
        "dense, float32",
        "without a plan",
        *(f"{name}, {kind}" for name in ("grouped", "varlen (emulated)", "planted fault") for kind in kinds),
    }


def shifted(query, key, value, plan, scaling):
    """A route that is wrong by a thousandth."""
    return grouped_attention(query, key, value, plan, scaling) * 1.001


def test_a_broken_route_fails_and_takes_an_older_record_away(tiny_model, tmp_path, capsys):
    verify(tiny_model, "float32", records=tmp_path)
    assert list(tmp_path.iterdir())
    with pytest.raises(
        RefusedError, match=r"but 3 of \d+ failed on cpu .*: mine, float32\. .*forward: padded"
    ) as refused:
        verify(tiny_model, "float32", routes={"mine": shifted}, records=tmp_path)
    assert refused.value.exit_code == 8
    assert not list(tmp_path.iterdir())
    printed = capsys.readouterr().out
    assert "FAILED  mine, float32: loss" in printed
    assert "ok      without a plan" in printed, "the checks after the failed one ran too"


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_a_fault_that_goes_unnoticed_fails(tiny_model, tmp_path, compute):
    with pytest.raises(RefusedError, match="planted fault, float32"):
        verify(tiny_model, compute, fault=dense_attention, records=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_gross_fault_is_noticed_through_the_rounding_of_bfloat16(tiny_model, tmp_path):
    with pytest.raises(RefusedError, match="mine, float32, mine, autocast to bfloat16, mine, bfloat16 weights"):
        verify(tiny_model, "bfloat16", routes={"mine": sees_sibling}, records=tmp_path)


def test_of_a_model_without_a_tree_padded_rows_are_verified_and_nothing_is_recorded(tmp_path, tiny_model, capsys):
    folder = tmp_path / "windowed"
    size = transformers.AutoConfig.from_pretrained(tiny_model).vocab_size
    trees.model("Mistral", sliding_window=64, vocab_size=size).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    found = verify(str(folder), "bfloat16", records=tmp_path / "records")
    assert found.unfit == "its attention slides over a window of 64 tokens" and found.record is None
    assert "the tree does not fit this model: its attention slides over" in capsys.readouterr().out
    assert {finding.name for finding in found.findings} >= {"log 2", "identical sides", "invariance"}
    assert not (tmp_path / "records").exists()


# peft 0.21 asks transformers by the name that it used before 5.23
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_an_adapter_is_verified_with_its_base(tmp_path, tiny_model, compute):
    settings = peft.LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    base = transformers.AutoModelForCausalLM.from_pretrained(tiny_model)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        peft.get_peft_model(base, settings).save_pretrained(tmp_path / "adapter")
    assert verify(str(tmp_path / "adapter"), compute, records=tmp_path).record is not None


def test_an_arithmetic_that_no_run_has_is_refused(tiny_model):
    with pytest.raises(ConfigError, match="'float16'"):
        verify(tiny_model, "float16")


def test_the_verb_passes_and_refuses(tiny_model, tmp_path):
    def align(*words):
        environment = {"XDG_CACHE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
        command = [sys.executable, "-m", "align.cli", "verify", *words]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    done = align(tiny_model, "--compute", "float32")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "align" / "verified").glob("llama-float32-*.json"))) == 1
    wrong = align(tiny_model, "--compute", "float16")
    assert (wrong.returncode, "--compute must be float32 or bfloat16, but is 'float16'" in wrong.stderr) == (2, True)


def test_a_broken_loss_fails():
    broken = {**AGAINST_REFERENCE, "sigmoid": lambda pairs, beta: losses.sigmoid(pairs, beta * (1 + 1e-9))}
    assert [finding.is_ok for finding in check_losses()] == [True, True, True]
    assert [finding.is_ok for finding in check_losses(broken)] == [False, False, False]


def test_a_loss_that_favours_a_side_fails():
    biased = {**AGAINST_REFERENCE, "hinge": lambda pairs, beta: losses.hinge(pairs, beta) + 1e-3 * pairs.chosen_logps_B}
    failed = [finding for finding in check_losses(biased) if not finding.is_ok]
    assert [finding.name for finding in failed] == ["golden losses", "swap symmetry"]


def test_every_golden_value_is_checked_or_said_to_be_trls():
    names = set(GOLDEN["expected"]["beta=0.1"]) | {name for name in GOLDEN["expected"] if not name.startswith("beta=")}
    assert names == {*AGAINST_REFERENCE, *WITHOUT_REFERENCE, *ONLY_ON_TRLS_PATH}


def test_what_is_not_a_number_fails():
    assert not Finding("one", "a against b", float("nan"), 1.0).is_ok
    assert not Finding("one", "a against b", float("nan"), 1.0, must_exceed=True).is_ok
    assert str(Finding("one", "a against b", 2.0, 1.0, "nats")) == "FAILED  one: a against b: 2 nats (allowed 1)"


def large(num_layers):
    """A model without memory: 131 million parameters and 67 million in each layer."""
    with torch.device("meta"):
        shape = {"hidden_size": 2048, "intermediate_size": 8192, "vocab_size": 32_000, "head_dim": 512}
        return trees.model("Llama", num_hidden_layers=num_layers, **shape)


def test_of_a_large_model_the_first_layers_are_taken():
    model = large(20)
    notes = verify_model.shorten(model, torch.device("cuda"))
    assert notes == [
        "the first 13 of its 20 layers are taken (1.4 billion parameters)",
        "gradients are those of the first and the last of these layers",
    ]
    trained = {name.split(".")[2] for name, each in model.named_parameters() if each.requires_grad}
    assert (len(model.model.layers), trained) == (13, {"0", "12"})


def test_on_a_cpu_two_layers_are_the_least():
    model = large(4)
    assert verify_model.shorten(model, torch.device("cpu"))[0].startswith("the first 2 of its 4 layers are taken")
    assert all(each.requires_grad for each in model.parameters())


def test_weights_come_back_as_they_were():
    model = trees.model("Qwen2", torch.bfloat16)
    before = {name: each.clone() for name, each in model.state_dict(keep_vars=False).items()}
    with verify_model.in_float32(model):
        assert {each.dtype for each in model.parameters()} == {torch.float32}
    after = model.state_dict()
    assert all(torch.equal(after[name], each) and after[name].dtype == each.dtype for name, each in before.items())

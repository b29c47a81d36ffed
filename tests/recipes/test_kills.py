"""Kills: whatever ends a run, the same command goes on by itself and ends at the same bytes, with the same metrics."""

from __future__ import annotations

import pickle
import random
import shutil
import signal
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from align.data.files.rows import write_rows
from align.errors import RefusedError
from align.recipes.sft import SFTRecipe
from align.store.records import read_json
from align.training.loop.checkpoints import Checkpoints
from align.training.loop.ranks import Ranks
from tests.recipes.conftest import pair
from tests.recipes.processes import (
    ANY,
    EARLY,
    FINISH,
    PHASES,
    ROTATE,
    SAVE,
    STEP,
    Blow,
    final_sha256,
    history,
    run_apart,
)
from tests.training.loop.test_checkpoints import FAULTS

LORA = "lora={r: 4, lora_alpha: 8, target_modules: all-linear, lora_dropout: 0.1}"
METHODS = {
    "sft": ("align.recipes.sft.SFTRecipe", []),
    "dpo": ("align.recipes.dpo.DPORecipe", []),
    "dpo_lora": ("align.recipes.dpo.DPORecipe", [LORA]),
    "sft_adapter_dpo": ("align.recipes.dpo.DPORecipe", ["trainer.learning_rate=1e-4"]),
    "grpo_lora": (
        "align.recipes.grpo.GRPORecipe",
        [
            LORA,
            "rewards=[{use: tests.recipes.processes.byte_sum}]",
            "trainer.num_generations=4",
            "trainer.steps_per_generation=2",
            "trainer.max_completion_length=6",
            "trainer.save_steps=3",
        ],
    ),
}
"""Name → recipe and its own settings. GRPO's save_steps is odd, so that saves wait for the end of a generation."""


class Bench:
    """Runs of the methods in folders of their own, each compared with its run that nothing interrupted."""

    def __init__(self, folder: Path, model: str) -> None:
        self.folder, self.model = folder, model
        write_rows(folder / "pairs.jsonl", [pair(number) for number in range(20)])
        write_rows(folder / "heldout.jsonl", [pair(number) for number in range(20, 24)])
        self.references: dict[str, tuple[str, dict[Any, Any]]] = {}

    def words(self, method: str, run: Path) -> list[str]:
        """Settings: 14 steps of 5 an epoch, saved at every second, logged at every third, evaluated once an epoch."""
        own = METHODS[method][1]
        return [
            f"model={self.adapter() if method == 'sft_adapter_dpo' else self.model}",
            f"train_data={self.folder / 'pairs.jsonl'}",
            *([] if method == "grpo_lora" else [f"eval_data={self.folder / 'heldout.jsonl'}"]),
            f"output_dir={run}",
            "compute=float32",
            "trainer={max_steps: 14, learning_rate: 1e-3, per_device_train_batch_size: 4, save_steps: 2}",
            "trainer.logging_steps=3",
            "trainer.gradient_checkpointing=false",
            *own,
        ]

    def run(self, method: str, run: Path, blow: Blow | None = None) -> Any:
        return run_apart(METHODS[method][0], self.words(method, run), run.parent / f"{run.name}-output", blow)

    def adapter(self) -> Path:
        """A trained SFT adapter."""
        run = self.folder / "sft_adapter"
        if not (run / "model").is_dir():
            words = [*self.words("sft", run), LORA]
            assert run_apart(METHODS["sft"][0], words, self.folder / "sft_adapter-output").code == 0
        return run

    def assert_as_uninterrupted(self, method: str, run: Path) -> None:
        if method not in self.references:
            undisturbed = self.folder / f"{method}-undisturbed"
            ended = self.run(method, undisturbed)
            assert ended.code == 0, ended.output
            self.references[method] = final_sha256(undisturbed), history(undisturbed)
        sha256, rows = self.references[method]
        assert final_sha256(run) == sha256, f"{run}: other weights"
        assert history(run) == rows, f"{run}: other metrics"

    def finish(self, method: str, run: Path) -> None:
        """Repeat the command, and compare what comes out."""
        ended = self.run(method, run)
        assert ended.code == 0, ended.output
        self.assert_as_uninterrupted(method, run)

    def survive(self, method: str, phases: list[str], seed: int) -> int:
        """Kill a run once in each phase, one after the other in the same folder; returns the number of folders used."""
        left, num_runs = list(phases), 0
        draw = random.Random(f"{method}{seed}")
        while left:
            run = self.folder / f"{method}-{seed}-{num_runs}"
            num_runs += 1
            code = -signal.SIGKILL
            while left and code == -signal.SIGKILL:
                ended = self.run(method, run, Blow(left[0], draw.randrange(2**32)))
                code = ended.code
                assert code in (0, -signal.SIGKILL), ended.output
                if code == -signal.SIGKILL:
                    assert_killed_in(left.pop(0), run)
            if code == 0:  # it was through before that phase came
                self.assert_as_uninterrupted(method, run)
            else:
                self.finish(method, run)
        return num_runs


@pytest.fixture(scope="module")
def bench(tmp_path_factory, tiny_model):
    return Bench(tmp_path_factory.mktemp("kills"), tiny_model)


@pytest.mark.parametrize("method", ["dpo", "sft"])
def test_a_run_killed_in_every_phase_ends_at_the_same_bytes(bench, method):
    bench.survive(method, list(PHASES), seed=0)


@pytest.mark.slow
def test_60_kills_three_for_each_method_and_phase(bench, capsys):
    kills: Counter[tuple[str, str]] = Counter()
    for method in METHODS:
        for seed in (1, 2, 3):
            phases = random.Random(seed).sample(PHASES, k=4)
            bench.survive(method, phases, seed)
            kills.update((method, phase) for phase in phases)
    with capsys.disabled():
        print(f"\n{kills.total()} SIGKILLs, each run resumed by itself and ended at the same bytes and metrics:")
        for method in METHODS:
            print(f"  {method}: " + ", ".join(f"{phase} {kills[method, phase]}" for phase in PHASES))


@pytest.mark.slow
def test_a_run_killed_after_its_last_step_saves_its_model_when_it_goes_on(bench):
    for method in METHODS:
        bench.survive(method, [FINISH, FINISH, FINISH], seed=0)


def test_whatever_signal_stops_a_run_it_is_saved_and_goes_on(bench):
    run = bench.folder / "signals"
    blows = [
        (Blow(EARLY, 0, signal.SIGTERM), 75, "before the first step: nothing to save"),
        (Blow(STEP, 1, signal.SIGUSR1), 75, "SIGUSR1: finishing this step and saving"),
        (Blow(STEP, 2, signal.SIGTERM), 75, "SIGTERM: finishing this step and saving"),
        (Blow(STEP, 3, signal.SIGINT), 130, "Ctrl-C: finishing this step and saving"),
    ]
    for blow, code, said in blows:
        ended = bench.run("dpo", run, blow)
        assert ended.code == read_json(run / "exit.json")["code"] == code
        assert said in ended.output
        assert ("checkpoint: " in ended.output) is (blow.phase != EARLY)
    before = checkpoint_names(run)
    ended = bench.run("dpo", run, Blow(STEP, 4, signal.SIGINT, times=2))
    assert ended.code == read_json(run / "exit.json")["code"] == 130
    assert ended.latency < 5
    assert len(checkpoint_names(run) - before) <= 1, "the second Ctrl-C must not wait for a save"
    bench.finish("dpo", run)


@pytest.mark.slow
def test_30_sigterms_at_random_moments(bench, capsys):
    """In each method six, some of them in one folder; a signal that comes after the last step is not counted."""
    latencies: dict[str, list[float]] = {method: [] for method in METHODS}
    for method, measured in latencies.items():
        draw, num_runs = random.Random(method), 0
        while len(measured) < 6:
            run = bench.folder / f"{method}-sigterm-{num_runs}"
            num_runs += 1
            code = 75
            while code == 75 and len(measured) < 6:
                ended = bench.run(method, run, Blow(ANY, draw.randrange(2**32), signal.SIGTERM, within=0.5))
                code = ended.code
                assert code in (0, 75), ended.output
                if code == 75:
                    assert "its checkpoint is saved" in ended.output
                    measured.append(ended.latency)
            bench.finish(method, run) if code else bench.assert_as_uninterrupted(method, run)
    everything = [latency for measured in latencies.values() for latency in measured]
    assert max(everything) < 5
    with capsys.disabled():
        print(f"\n{len(everything)} SIGTERMs: each exit 75, resumed to the same bytes; seconds from signal to end:")
        for method, measured in {**latencies, "all": everything}.items():
            print(f"  {method}: median {statistics.median(measured):.2f}, largest {max(measured):.2f}")


class Payload:
    """What an attacker would put where tensors are expected."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.trace,))


def as_torch_writes_it(payload: Payload, file: Path) -> None:
    import torch

    torch.save({"state": payload}, file)


def as_a_bare_pickle(payload: Payload, file: Path) -> None:
    file.write_bytes(pickle.dumps({"state": payload}, protocol=2))


@pytest.mark.parametrize("write", [as_torch_writes_it, as_a_bare_pickle])
@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_pickle_in_a_checkpoint_is_not_run_although_the_manifest_matches(stopped, tmp_path, name, write):
    words, run, trace = stopped, tmp_path / "run", tmp_path / "trace"
    checkpoints = Checkpoints(run / "checkpoints")
    newest = checkpoints.newest()
    write(Payload(trace), newest.path / name)
    (newest.path / "manifest.json").unlink()
    checkpoints.commit(newest.step, newest.facts, Ranks())
    with pytest.raises(RefusedError, match=f"{newest.path}: holds more than tensors"):
        SFTRecipe.from_file(None, *words).run()
    assert not trace.exists()
    pickle.loads(pickle.dumps(Payload(trace)))
    assert trace.exists(), "the payload must be one that works"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_broken_file_of_a_real_checkpoint_is_found_named_and_fallen_back_from(stopped_once, tmp_path, capsys, fault):
    before, newest = sorted(checkpoint_names(stopped_once), key=lambda name: int(name[11:]))
    names = [path.name for path in (stopped_once / "checkpoints" / newest).iterdir()]
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"} < set(names)
    for name in names:
        shutil.copytree(stopped_once / "checkpoints", tmp_path / name)
        fault(tmp_path / name / newest / name)
        assert Checkpoints(tmp_path / name).newest().path.name == before
        assert f"{newest}: " in (said := capsys.readouterr().out) and name in said


@pytest.fixture(scope="module")
def stopped_once(bench):
    """A run that was stopped within its first steps, with two checkpoints."""
    run = bench.folder / "stopped"
    ended = bench.run("sft", run, Blow(STEP, 9, signal.SIGTERM))
    assert ended.code == 75
    return run


@pytest.fixture
def stopped(bench, stopped_once, tmp_path):
    """Words of a copy of that run."""
    shutil.copytree(stopped_once, tmp_path / "run")
    return bench.words("sft", tmp_path / "run")


def assert_killed_in(phase: str, run: Path) -> None:
    """What lies in the folder shows that the kill came in its phase."""
    folders = sorted((run / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    has_manifest = [(path / "manifest.json").is_file() for path in folders]
    if phase == STEP:
        assert all(has_manifest) and len(folders) <= 2
    elif phase == SAVE:
        assert has_manifest[-1] is False
    elif phase == ROTATE:
        assert has_manifest[-1] is True and len(folders) == 3
    else:
        assert folders


def checkpoint_names(run: Path) -> set[str]:
    return {path.name for path in (run / "checkpoints").glob("checkpoint-*")}

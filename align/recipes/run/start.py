"""Start: from settings to an open run folder, in every process of the run, and what is recorded when that fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from align.errors import EXIT_INTERRUPTED, AlignError, ConfigError, RefusedError
from align.models.load import silence_renames
from align.recipes.run.attempt import Attempt
from align.recipes.run.explain import explain
from align.store.redact import redact
from align.store.run_folder import RunFolder, command, versions

if TYPE_CHECKING:
    from align.recipes.run.recipe import RunnableRecipe
    from align.recipes.settings.common import RecipeSettings
    from align.training.loop.ranks import Ranks
    from align.training.loop.stopping import StopRequest


def run_recipe(recipe: RunnableRecipe) -> dict[str, Any]:
    """Join the other processes, agree with them, take the folder and train; returns what stands in `result.json`."""
    from align.training.loop.stopping import StopRequest

    with StopRequest() as stop, ExitStack() as stack:
        with _recorded_refusal(recipe.settings):
            ranks = recipe.ranks
        if not ranks.is_first:  # rank 0 speaks for all; errors go to stderr
            stack.enter_context(redirect_stdout(stack.enter_context(Path(os.devnull).open("w"))))
        try:
            return _agree_and_train(recipe, stop)
        except BaseException as error:
            ranks.leave_word(error)
            raise


def join_processes(settings: RecipeSettings) -> Ranks:
    """Join the processes that a launcher started.

    Raises:
        ConfigError: when `zero:` is given and no launcher started this process.
    """
    _set_up_libraries()
    from align.training.loop.ranks import Ranks, was_launched

    if settings.zero is not None and not was_launched():
        raise ConfigError(
            "zero: needs a launcher, also for one GPU; the same command with it is\n"
            f"  deepspeed --num_gpus 1 --module {command().removeprefix('python -m ')}"
        )
    return Ranks.join()


def _agree_and_train(recipe: RunnableRecipe, stop: StopRequest) -> dict[str, Any]:
    ranks = recipe.ranks
    with _recorded_refusal(recipe.settings):
        ranks.agree(lambda: _quick_identity(recipe))
        identity = redact(ranks.agree(recipe.identity))
        run = _open_folder(recipe, identity)
    if run is None:
        print(f"{recipe.settings.output_dir}: this run is already finished; nothing to do")
        return {}
    attempt = Attempt(recipe, run, ranks, stop, identity)
    try:
        result = attempt.train()
    except BaseException as error:
        explained = explain(error, recipe, attempt.guard)
        if ranks.is_first:
            run.finish(_exit_code(explained), str(explained) or type(explained).__name__)
        if explained is error:
            raise
        raise explained from error
    if ranks.is_first:
        run.finish(0, "done")
    return result


def _quick_identity(recipe: RunnableRecipe) -> dict[str, Any]:
    """What must be equal on all ranks and is known within seconds."""
    data = {name: file.fingerprint for name, file in recipe.rows.items()}
    return {"versions": versions(), "settings": redact(recipe.settings.model_dump(mode="json")), "data": data}


def _open_folder(recipe: RunnableRecipe, identity: dict[str, Any]) -> RunFolder | None:
    """Rank 0 takes the folder; the others must see it, since all of them write their part of a checkpoint."""
    settings, ranks = recipe.settings, recipe.ranks
    own = None

    def take() -> int | None:
        nonlocal own
        own = RunFolder.open(
            settings.output_dir, settings.model_dump(mode="json"), identity, settings.resume == "anyway"
        )
        return own.attempt if own else None

    try:
        attempt = ranks.first(take)
    except BaseException:
        if own is not None:
            own.leave()  # another process was lost; what is recorded of that is written under the lock too
        raise
    if attempt is None or ranks.is_first:
        return own
    if not (Path(settings.output_dir) / "run.json").is_file():
        raise RefusedError(f"{ranks.name}: does not see {settings.output_dir}; all nodes must share it")
    return RunFolder(Path(settings.output_dir), attempt)


@contextmanager
def _recorded_refusal(settings: RecipeSettings) -> Iterator[None]:
    """What stops processes before there is a run stands in `exit.json` too: launchers replace the code."""
    try:
        yield
    except AlignError as error:
        is_launched, folder = "RANK" in os.environ, Path(settings.output_dir)
        if os.environ.get("RANK", "0") == "0" and (is_launched or folder.is_dir()):
            with suppress(AlignError, OSError):
                RunFolder.record_refusal(settings.output_dir, error.exit_code, str(error))
        raise


def _exit_code(error: BaseException) -> int:
    if isinstance(error, AlignError):
        return error.exit_code
    return EXIT_INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1


def _set_up_libraries() -> None:
    """One line a step is enough; downloads from the hub keep their own bars."""
    import torch

    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # TRL reports every trainer it builds
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"  # DeepSpeed unpickles its checkpoints with all that is in them
    if not torch.accelerator.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # deepspeed warns when it has to find that out
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    silence_renames()

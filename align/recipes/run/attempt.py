"""Attempt: one start of a run, from the open folder to the saved model. A run that was stopped has several."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from align.errors import EXIT_INTERRUPTED, ConfigError, PreemptedError, RefusedError
from align.models.identity import IDENTITY, weights_sha256
from align.store.records import differences, read_json, write_json
from align.store.redact import redact
from align.store.run_folder import RunFolder, versions

if TYPE_CHECKING:
    from transformers import Trainer

    from align.recipes.run.recipe import RunnableRecipe
    from align.training.loop.checkpoints import Checkpoint, Checkpoints
    from align.training.loop.guard import Guard
    from align.training.loop.ranks import Ranks
    from align.training.loop.stopping import StopRequest
    from align.training.proof.moved import Movement

_SECONDS_FOR_TRACKERS = 2.0
"""How long a tracker may take to send what is left when a signal has asked for a stop."""


@dataclass
class Attempt:
    """One start of a run, in one process."""

    recipe: RunnableRecipe
    run: RunFolder
    ranks: Ranks
    stop: StopRequest
    identity: dict[str, Any]
    guard: Guard | None = None
    """There once the trainer is built."""

    def train(self) -> dict[str, Any]:
        """Build, train or go on, save and report; returns what stands in `result.json`."""
        recipe, ranks = self.recipe, self.ranks
        trainer = recipe.prepare()
        from align.training.loop.guard import AlreadyTrained, EvaluationCut
        from align.training.proof.moved import WeightSample
        from align.training.trackers.isolate import isolate_trackers

        findings: dict[str, Any] = {}
        resumed = self._watch(trainer, findings)
        before = WeightSample(trainer.model)
        with isolate_trackers(trainer, self.run) as trackers:
            try:
                trainer.train(resume_from_checkpoint=str(resumed.path) if resumed else None)
            except AlreadyTrained:
                print(f"  all {trainer.state.global_step} steps were done already")
                if trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint:
                    trainer._load_best_model()
            except EvaluationCut:
                print("  the evaluation that was going on is made up for when the run goes on")
            if self.guard is not None and self.guard.stopped_with:
                trackers.close(_SECONDS_FOR_TRACKERS)
        self._stop_if_asked(trainer.state.global_step)
        movement = before.compare(trainer.model)
        findings.update(recipe.after_training(trainer, findings))
        self._save_model(trainer)
        reports = trackers.close()
        result = {**findings, **self._counts(trainer, movement), **({"trackers": reports} if reports else {})}
        if ranks.is_first:
            self._report(redact(result))
        return result

    def _watch(self, trainer: Trainer, findings: dict[str, Any]) -> Checkpoint | None:
        """Put the guard on the trainer; returns the checkpoint to go on from."""
        from transformers import PrinterCallback

        from align.training.loop.checkpoints import Checkpoints
        from align.training.loop.guard import Guard
        from align.training.loop.record import RecordCallback

        checkpoints = Checkpoints(self.run.path / "checkpoints")
        resumed = self.ranks.first(lambda: self._to_resume(checkpoints))

        facts = self._facts()

        def begin() -> None:
            print(f"  {self._in_force(trainer)}")
            if resumed is not None:
                facts["reference_probe"] = resumed.facts["reference_probe"]
                findings.update(read_json(self.run.path / "start.json"))
                return self.recipe.check_resumed(trainer, {**findings, "reference_probe": facts["reference_probe"]})
            findings.update(self.recipe.check(trainer))
            facts["reference_probe"] = findings.pop("reference_probe", None)
            if self.ranks.is_first:
                write_json(self.run.path / "start.json", findings)

        self.guard = Guard(
            trainer,
            self.ranks,
            self.stop,
            checkpoints,
            facts=facts,
            name_rows=self._row_names,
            keep=self.recipe.settings.trainer.get("save_total_limit", 2),
            may_save=lambda: self.recipe.may_save(trainer),
            resumed_from=resumed,
            before_first_step=begin,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(RecordCallback(self.run))
        trainer.add_callback(self.guard)
        return resumed

    def _to_resume(self, checkpoints: Checkpoints) -> Checkpoint | None:
        found = checkpoints.newest()
        if found is None:
            return None
        now = self._facts()
        layout = differences(found.facts["layout"], now["layout"])
        if layout:
            raise ConfigError(
                f"{found.path}: was saved by other processes:\n  " + "\n  ".join(layout) + "\n"
                "Start it as it was started then, or choose another output_dir."
            )
        changed = "\n  ".join(differences(found.facts["identity"], self.identity))
        if changed and self.recipe.settings.resume != "anyway":
            raise ConfigError(
                f"{found.path}: was saved by a run with other settings; what is different now:\n  {changed}\n"
                "Set it back, choose another output_dir, or go on all the same with resume=anyway."
            )
        if changed:
            print(f"  resume: anyway, although these are different now:\n  {changed}")
        for line in differences(found.facts["versions"], now["versions"]):
            print(f"  note: {line} since the checkpoint; the last digits may differ")
        print(f"  resuming from {found.path}")
        return found

    def _facts(self) -> dict[str, Any]:
        """What a manifest records beside the files."""
        zero = self.recipe.settings.zero
        stage = zero if zero is None or isinstance(zero, str) else zero.stage
        layout = {"processes": self.ranks.world_size, "zero stage": stage}
        return {"identity": self.identity, "versions": versions(), "layout": layout}

    def _in_force(self, trainer: Trainer) -> str:
        from align.training.loop.zero import stage_in_force

        stage = stage_in_force(trainer)
        if self.recipe.settings.zero is not None and stage is None:
            raise RefusedError("zero: is set, but DeepSpeed does not train; please report this with the command")
        zero = "without ZeRO" if stage is None else f"ZeRO stage {stage}"
        count = self.ranks.world_size
        return f"in force: {count} process{'es' if count > 1 else ''} (backend {self.ranks.backend}), {zero}"

    def _row_names(self, indices: list[int]) -> list[str]:
        file = self.recipe.rows["train"]
        return [f"{file.path}:{file.lines[index]}" for index in indices]

    def _stop_if_asked(self, step: int) -> None:
        """Raise what a signal asked for, now that the checkpoint is saved."""
        stopped_with = self.guard.stopped_with if self.guard else 0
        if stopped_with == EXIT_INTERRUPTED:
            raise KeyboardInterrupt
        if stopped_with:
            from align.training.loop.ranks import shared

            raise shared(
                PreemptedError(f"stopped after step {step}; its checkpoint is saved, and the same command goes on")
            )

    def _save_model(self, trainer: Trainer) -> None:
        """Put the trained model in place, whole; without the frozen reference adapter."""
        draft, final = self.run.path / ".model", self.run.path / "model"
        if self.ranks.is_first:
            shutil.rmtree(draft, ignore_errors=True)
        self.ranks.gather(None)
        probe = self._probe(trainer)
        trainer.save_model(str(draft))
        self.ranks.gather(None)
        if not self.ranks.is_first:
            return
        shutil.rmtree(draft / "ref", ignore_errors=True)
        (draft / "training_args.bin").unlink(missing_ok=True)  # a pickle that nobody reads
        write_json(draft / IDENTITY, {"files": self._files(draft), "probe": probe})
        self._make_way(final, draft)
        draft.rename(final)

    def _make_way(self, final: Path, draft: Path) -> None:
        """Remove the model that an earlier attempt left; with files in it that the new one lacks, it is kept aside."""
        added = [file for file in final.rglob("*") if file.is_file() and not (draft / file.relative_to(final)).exists()]
        if not final.is_symlink() and not added:
            shutil.rmtree(final, ignore_errors=True)
            return
        kept = final.rename(final.with_name(f"model.before-{self.run.attempt}"))
        what = f"holds {added[0].relative_to(final)}, which this run does not write" if added else "is a link"
        print(f"  {final}: {what}; kept as {kept}")

    def _probe(self, trainer: Trainer) -> dict[str, Any]:
        """Log-probs of a few rows, by which a later run can tell that it has loaded this model."""
        from align.training.proof.probe import measure

        rows = self.recipe.probe_rows()
        return asdict(measure(trainer, trainer.model_wrapped, rows, self.recipe.settings.compute, nullcontext()))

    def _files(self, folder: Path) -> dict[str, str | None]:
        saved = weights_sha256(str(folder))
        is_adapter = (folder / "adapter_config.json").is_file()
        return {"weights": self.recipe.model_files["weights"], "adapter": saved} if is_adapter else {"weights": saved}

    def _counts(self, trainer: Trainer, movement: Movement) -> dict[str, Any]:
        from align.training.loop.zero import stage_in_force

        tokens, rows = self.recipe.tokens, self.recipe.rows["train"]
        epochs = trainer.state.epoch or 0
        return {
            "processes": self.ranks.world_size,
            "backend": self.ranks.backend,
            "zero_stage": stage_in_force(trainer),
            "rows": tokens.num_rows,
            "rows_too_long": tokens.num_too_long,
            "rows_dropped": dict(tokens.dropped),
            "bad_rows": len(rows.bad),
            **({"learned_tokens_seen": round(tokens.num_learned * epochs)} if self.recipe.sides else {}),
            "steps": trainer.state.global_step,
            "trainable_weights": movement.num_trainable,
            "share_of_trainable_weights_moved": movement.trainable_share,
            "frozen_weights_moved": movement.num_frozen_moved,
            "weights_are_finite": not movement.has_non_finite,
        }

    def _report(self, result: dict[str, Any]) -> None:
        from align.recipes.run.card import write_card

        folder = self.run.path
        write_json(folder / "result.json", result)
        write_card(folder, type(self.recipe).__name__, self.recipe.settings, result)
        share = result["share_of_trainable_weights_moved"]
        print(f"  {share:.1%} of {result['trainable_weights']:,} trainable weights moved")
        if share < 0.5:
            print("  warning: most trainable weights did not move; is the learning rate far too small?")
        if result["frozen_weights_moved"] or not result["weights_are_finite"]:
            what = "a frozen weight moved" if result["frozen_weights_moved"] else "a weight is NaN or infinite"
            raise RefusedError(f"{folder}: {what}; do not use this model")
        print(f"  saved: {Path(folder) / 'model'}")

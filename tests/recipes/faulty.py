"""Faulty: recipes in which one thing goes wrong at a chosen step, in this process or under a launcher.

python -m tests.recipes.faulty RECIPE FAULT STEP RANK key=value …      (RANK -1: on every rank)
"""

from __future__ import annotations

import os
import re
import signal
import sys
from typing import Any

from align.errors import AlignError
from align.recipes.dpo import DPORecipe
from align.recipes.sft import SFTRecipe

RECIPES = {"dpo": DPORecipe, "sft": SFTRecipe}


def _ids(inputs: Any) -> Any:
    """Token ids of every row of a batch."""
    if "packs" not in inputs:
        return inputs["input_ids"]
    layouts = [pack.layout for pack in inputs["packs"]]
    return [ids for each in layouts for ids in (each.input_ids_1_T if hasattr(each, "lengths") else each.input_ids_C_T)]


def faulty(recipe_class: Any, fault: str, step: int, rank: int = -1) -> Any:
    """The recipe, in which `fault` happens in optimizer step number `step` (from 1) of one rank.

    Its `questions` are the numbers of the questions in the batches of the step that is going on, read from their text.
    """
    from transformers import TrainerCallback

    class Faulty(recipe_class):
        questions: tuple[int, ...] = ()

        def build_trainer(self) -> Any:
            trainer = super().build_trainer()
            is_here = rank in (-1, self.ranks.rank)
            compute_loss, recipe = trainer.compute_loss, self

            def is_due() -> bool:
                return is_here and trainer.state.global_step == step - 1

            def watched(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
                texts = recipe.tokenizer.batch_decode(_ids(inputs))
                numbers = [int(number) for text in texts for number in re.findall(r"question (\d+)\?", text)]
                recipe.questions += tuple(dict.fromkeys(numbers))
                loss = compute_loss(model, inputs, *args, **kwargs)
                if is_due():
                    loss = self.disturb(fault, loss, trainer)
                return loss

            class Hooks(TrainerCallback):
                def on_step_begin(_, *args: Any, **kwargs: Any) -> None:
                    recipe.questions = ()

                def on_optimizer_step(_, *args: Any, **kwargs: Any) -> None:
                    if is_due() and fault == "weight":
                        next(p for p in trainer.model.parameters() if p.requires_grad).data.view(-1)[0] = float("nan")

            trainer.compute_loss = watched
            trainer.add_callback(Hooks())
            if fault == "gradient":
                weight = next(p for p in trainer.model.parameters() if p.requires_grad)
                weight.register_hook(lambda gradient: gradient * float("inf") if is_due() else gradient)
            return trainer

        def disturb(self, fault: str, loss: Any, trainer: Any) -> Any:
            import torch

            if fault == "loss":
                return loss * float("nan")
            if fault == "memory":
                torch.empty(2**50, dtype=torch.uint8)
            if fault == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if fault == "freeze":
                os.kill(os.getpid(), signal.SIGSTOP)
            if fault == "config":
                raise AlignError("a fault of this rank alone")
            return loss

    Faulty.__name__, Faulty.__doc__ = recipe_class.__name__, recipe_class.__doc__
    return Faulty


def main(arguments: list[str]) -> int:
    launcher = [word for word in arguments if word.startswith("--")]
    recipe, fault, step, rank, *words = [word for word in arguments if not word.startswith("--")]
    is_here = os.environ.get("RANK", "0") == rank
    if fault in ("version", "words", "folder"):  # before the start; the first word says what is different on this rank
        different = words.pop(0)
        if is_here and fault == "version":
            sys.path.insert(0, different)  # holds the metadata of another version of a package
        elif is_here and fault == "words":
            words.append(different)
        elif is_here:
            os.chdir(different)
    return faulty(RECIPES[recipe], fault, int(step), int(rank)).main([*launcher, *words])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

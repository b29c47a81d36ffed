"""Names: what builders, recipes and formats are called on a command line, and which class each name stands for."""

from __future__ import annotations

BUILDERS = {
    "contrast": "align.data_builders.contrast.ContrastBuilder",
    "student": "align.data_builders.student.StudentBuilder",
    "best_of": "align.data_builders.best_of.BestOfBuilder",
    "verified": "align.data_builders.verified.VerifiedBuilder",
    "revise": "align.data_builders.revise.ReviseBuilder",
    "dialogue": "align.data_builders.dialogue.builder.DialogueBuilder",
    "sums": "align.data_builders.sums.SumsBuilder",
    "reasoning_gym": "align.data_builders.reasoning_gym.ReasoningGymBuilder",
}
"""Of `align build NAME`; `python -m` takes the file in `align/data_builders/` of that name."""

RECIPES = {
    "sft": "align.recipes.sft.SFTRecipe",
    "dpo": "align.recipes.dpo.DPORecipe",
    "grpo": "align.recipes.grpo.GRPORecipe",
}
"""Of `align train NAME`; `python -m` takes the file in `align/recipes/` of that name."""

FORMATS = {
    "align": "align.data.formats.trl.AlignFormat",
    "trl-implicit": "align.data.formats.trl.ImplicitFormat",
    "trl-text": "align.data.formats.trl.TextFormat",
    "kto": "align.data.formats.trl.KtoFormat",
    "alpaca": "align.data.formats.alpaca.AlpacaFormat",
    "sharegpt": "align.data.formats.sharegpt.ShareGptFormat",
    "llama-factory": "align.data.formats.sharegpt.ShareGptFormat",
    "swift": "align.data.formats.swift.SwiftFormat",
    "swift-messages": "align.data.formats.swift.SwiftMessagesFormat",
}
"""Of `align convert --from NAME --to NAME`; `llama-factory` is ShareGPT's with an entry in `dataset_info.json`."""


def module_of(starts: type) -> str:
    """What stands behind `python -m` to start a builder or a recipe; of a class that has no name, its own module."""
    for folder, classes in (("data_builders", BUILDERS), ("recipes", RECIPES)):
        for name, path in classes.items():
            if path.rpartition(".")[2] == starts.__name__:
                return f"align.{folder}.{name}"
    return starts.__module__

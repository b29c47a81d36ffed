"""SFT: supervised fine-tuning on the chosen side, the arm that every preference method has to beat.

python -m align.recipes.sft recipes/X.yaml output_dir=runs/x trainer.max_steps=50
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from align.data.rows.pair import Demonstration
from align.recipes.base import Recipe
from align.recipes.settings.common import PASS_THROUGH_LORA, RecipeSettings, owned_arguments
from align.settings.base import Location
from align.settings.passthrough import SFT_CONFIG, PassThrough

if TYPE_CHECKING:
    from trl import SFTTrainer


_TOKENIZER_ARGUMENTS = frozenset({"chat_template_path", "eos_token", "pad_token", "trust_remote_code"})
"""Arguments by which TRL would change the tokenizer after the rows were checked with it."""


class SFTSettings(RecipeSettings):
    """Settings of supervised fine-tuning."""

    pass_through: ClassVar[Mapping[str, PassThrough]] = {"trainer": SFT_CONFIG, **PASS_THROUGH_LORA}

    @classmethod
    def mistakes(cls, raw: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
        """Refused arguments."""
        yield from owned_arguments(raw)
        trainer = raw.get("trainer")
        if isinstance(trainer, Mapping):
            for name in _TOKENIZER_ARGUMENTS & trainer.keys():
                text = "rows are checked with the model's own tokenizer; change it in the model's folder"
                yield ("trainer", name), f"trainer.{name} is refused: {text}"


class SFTRecipe(Recipe[SFTSettings]):
    """Supervised fine-tuning on prompts with their chosen completions.

    Rows may be preference pairs (the chosen side is learned) or `{"prompt": [...], "completion": [...]}`.
    """

    config_class = SFTSettings
    row_class = Demonstration
    sides = ("completion",)

    def build_trainer(self) -> SFTTrainer:
        """TRL's SFTTrainer; only the completion's tokens carry loss."""
        from trl import SFTConfig, SFTTrainer

        arguments = SFTConfig(**self.trainer_arguments())  # first: it tells transformers to shard while loading
        trainer = SFTTrainer(
            model=self.policy(),
            args=arguments,
            train_dataset=self.dataset("train"),
            eval_dataset=self.dataset("eval"),
            processing_class=self.tokenizer,
            peft_config=self.lora_config(),
        )
        from align.training.step.cpu_head import score_completions_only

        score_completions_only(trainer.model, ("log_probs", "entropy", "is_top1"))
        return trainer


if __name__ == "__main__":
    raise SystemExit(SFTRecipe.main())

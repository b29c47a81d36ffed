"""GRPO on completions that are a function of the prompt, so that only training can differ between two launches.

python -m tests.recipes.replayed_grpo model=… train_data=…
"""

from __future__ import annotations

import hashlib
from collections import Counter

from align.recipes.grpo import GRPORecipe

LONGEST = 12


def letters(prompts, completions, **columns):
    """Share of the completion's characters in the first half of the alphabet."""
    texts = [completion[0]["content"] for completion in completions]
    return [sum("a" <= letter <= "m" for letter in text) / max(len(text), 1) for text in texts]


def replay(prompts, trainer):
    """The n-th completion of a prompt is always the same; their lengths differ."""
    tokenizer, seen = trainer.processing_class, Counter()
    prompt_ids, completion_ids = [], []
    for prompt in prompts:
        text = prompt[-1]["content"]
        digest = hashlib.sha256(f"{text} {seen[text]}".encode()).digest()
        seen[text] += 1
        words = "".join(chr(ord("a") + byte % 26) for byte in digest[: 3 + digest[0] % LONGEST])
        prompt_ids.append(tokenizer.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"])
        completion_ids.append([*tokenizer(words, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id])
    return {"prompt_ids": prompt_ids, "completion_ids": completion_ids, "logprobs": None}


class ReplayedGRPORecipe(GRPORecipe):
    """GRPO that trains on given completions."""

    def build_trainer(self):
        """Put the completions in the place of sampling."""
        trainer = super().build_trainer()
        trainer.rollout_func = replay
        return trainer


if __name__ == "__main__":
    raise SystemExit(ReplayedGRPORecipe.main())

"""Measures: what is known of each arm's answers besides the skill itself, so that damage shows.

Relevance asks whether an answer still belongs to its prompt: under the base model, is the answer likelier after its own
prompt than after 19 others? A model that learned to say one pleasing thing to everyone scores 1 in 20.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from statistics import fmean
from typing import Any

from align.data.rows.instruction import Instruction
from align.data.rows.pair import Prompt, as_dicts
from align.evaluation.arms import Answers, Arm
from align.evaluation.diversity import count_words, distinct_n
from align.models.load import load_model, load_tokenizer
from align.models.resolve import resolve
from align.models.scoring import cross_logps, text_nll
from align.rewards.base import score_text

NUM_CANDIDATES = 20
"""Prompts that an answer's own prompt is ranked among, itself included."""
RELEVANCE_TOKENS = 40
"""Leading tokens of an answer that are scored."""


@dataclass(frozen=True)
class Measures:
    """One arm's measures."""

    ended: float
    """Share of answers that ended by themselves."""
    words: float
    """Mean words an answer."""
    distinct_3: float
    """Share of distinct word trigrams, over equal numbers of words for all arms."""
    relevant: list[bool]
    """[N] whether the first answer's own prompt ranks first."""
    style_strength: float
    """Mean of log p(answer | instruction, prompt) − log p(answer | prompt) under the base model, in nats. It measures
    how strongly the style shows, never quality: an off-topic string can score higher than any real answer."""
    general_nll: float
    """Nats per token on a small general text under the arm's own model."""

    @property
    def relevance(self) -> float:
        """Share of prompts whose answer belongs to them."""
        return fmean(self.relevant)


async def skill_scores(reward: Any, prompts: Sequence[Prompt], answers: Answers) -> list[list[float | None]]:
    """[N][K] the reward of every answer; None where the reward cannot say."""
    return [
        [await score_text(reward, prompt, one.text) for one in row]
        for prompt, row in zip(prompts, answers, strict=True)
    ]


def measure(
    arms: Sequence[Arm], answers: dict[str, Answers], prompts: Sequence[Prompt], good: Instruction, compute: str
) -> dict[str, Measures]:
    """All measures of all arms. The scoring model is the first arm's, without an instruction."""
    relevant, style = _score_under_base(arms, answers, prompts, good, compute)
    texts = {name: [completion.text for row in rows for completion in row] for name, rows in answers.items()}
    equal_words = min(map(count_words, texts.values()))
    nll = _general_nll(arms, compute)
    return {
        arm.name: Measures(
            ended=fmean(c.finish_reason == "stop" for row in answers[arm.name] for c in row),
            words=count_words(texts[arm.name]) / len(texts[arm.name]),
            distinct_3=distinct_n(texts[arm.name], n=3, num_words=equal_words),
            relevant=relevant[arm.name],
            style_strength=style[arm.name],
            general_nll=nll[arm.model],
        )
        for arm in arms
    }


def rivals(num_prompts: int, seed: int = 0) -> list[list[int]]:
    """[N][20] for each prompt its own index first, then up to 19 others, drawn once with a fixed seed."""
    generator = random.Random(seed)
    return [
        [own, *generator.sample([i for i in range(num_prompts) if i != own], min(NUM_CANDIDATES, num_prompts) - 1)]
        for own in range(num_prompts)
    ]


def _score_under_base(
    arms: Sequence[Arm], answers: dict[str, Answers], prompts: Sequence[Prompt], good: Instruction, compute: str
) -> tuple[dict[str, list[bool]], dict[str, float]]:
    base = resolve(arms[0].model)
    tokenizer = load_tokenizer(base)
    model = load_model(base, dtype=compute)
    first = [row[0].text for arm in arms for row in answers[arm.name]]
    candidates = rivals(len(prompts))
    wanted = [
        (prompt, a * len(prompts) + own)
        for a in range(len(arms))
        for own, others in enumerate(candidates)
        for prompt in others
    ]
    plain = [as_dicts(prompt.messages) for prompt in prompts]
    logps = cross_logps(model, tokenizer, plain, first, wanted, max_tokens=RELEVANCE_TOKENS)
    instructed = [as_dicts(good.apply(prompt.messages)) for prompt in prompts]
    own = [(i % len(prompts), i) for i in range(len(first))]
    styled = cross_logps(model, tokenizer, instructed, first, own, max_tokens=RELEVANCE_TOKENS)
    relevant: dict[str, list[bool]] = {}
    style: dict[str, float] = {}
    for a, arm in enumerate(arms):
        indices = range(a * len(prompts), (a + 1) * len(prompts))
        relevant[arm.name] = [
            all(logps[n, i] > logps[other, i] for other in candidates[n][1:]) for n, i in enumerate(indices)
        ]
        style[arm.name] = fmean(styled[n, i] - logps[n, i] for n, i in enumerate(indices))
    return relevant, style


def _general_nll(arms: Sequence[Arm], compute: str) -> dict[str, float]:
    text = resources.files("align.evaluation").joinpath("general_text.txt").read_text(encoding="utf-8")
    found = {}
    for name in dict.fromkeys(arm.model for arm in arms):
        resolved = resolve(name)
        model = load_model(resolved, dtype=compute)
        found[name] = text_nll(model, load_tokenizer(resolved), text)
    return found

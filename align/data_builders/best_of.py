"""Best of N: several answers of one teacher, scored by a reward or compared by a judge, best against worst.

python -m align.data_builders.best_of data_builders/X.yaml prompts=my.jsonl
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from statistics import fmean, pstdev
from typing import Any, Literal

from pydantic import Field

from align.data.rows.instruction import Instruction
from align.data.rows.pair import Candidate, Dropped, Group, Message, PreferencePair, Prompt
from align.data_builders.core.base import DataBuilder
from align.data_builders.core.settings import BuilderSettings
from align.data_builders.core.sieve import judge_meta
from align.judges.both_orders import Judgement
from align.rewards.base import Reward, score_text
from align.settings.base import Location
from align.settings.dotted import UseSettings
from align.teachers.base import Completion, Teacher
from align.teachers.ledger.ledger import Ledger
from align.teachers.settings import SamplingSettings, TeacherSettings

MANY = 16
"""Candidates from which on the worst is not the one to reject."""


class BestOfSettings(BuilderSettings):
    """Settings of the best-of-N builder."""

    teacher: TeacherSettings
    """Who answers; often the model that will be trained."""
    good: Instruction = Instruction()
    """What it is told besides the prompt; it does not enter the pair."""
    num_candidates: int = Field(default=4, ge=2)
    """Answers that are drawn for a prompt. A judge compares each with each: 4 are 6 comparisons in two orders."""
    reward: UseSettings | None = None
    """What scores an answer; or `judge`, who compares them. A judge's score is the share of comparisons won."""
    least_margin: float = Field(default=0.0, ge=0)
    """Difference of scores that a pair must have more than."""
    keep: Literal["pair", "group"] = "pair"
    """One pair, or the whole group with its scores (`groups.jsonl`), to train on all its pairs."""
    sampling: SamplingSettings = SamplingSettings(temperature=1.0)
    """How answers are drawn."""

    @classmethod
    def mistakes(cls, raw: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
        """Exactly one source of scores."""
        if (raw.get("reward") is None) == (raw.get("judge") is None):
            yield (("reward",) if "reward" in raw else ()), "exactly one of reward and judge must be given"


class BestOfBuilder(DataBuilder[BestOfSettings]):
    """Pairs of the best and a bad one of several answers of one teacher."""

    config_class = BestOfSettings
    teacher: Teacher

    def __init__(self, settings: BestOfSettings, teacher: Teacher | None = None) -> None:
        super().__init__(settings)
        self._given = teacher
        self._reward: Reward | None = settings.reward.load() if settings.reward else None
        self.rewards = [self._reward] if self._reward else []

    async def open(self, ledger: Ledger) -> None:
        """The teacher that was given, or the one of the settings."""
        self.teacher = self.asked(self._given or self.settings.teacher, ledger)

    async def label(self, prompt: Prompt) -> PreferencePair | Group | Dropped:
        """Draw the candidates, score them, and take two."""
        messages = self.settings.good.apply(prompt.messages)
        drawn = await self.teacher.complete(messages, self.settings.sampling.make(), self.settings.num_candidates)
        whole = [one for one in drawn if one.finish_reason == "stop" and one.text.strip()]
        candidates = list({one.text.strip(): one for one in whole}.values())
        meta = {"teacher": self.teacher.name, "num_drawn": len(drawn), "num_different": len(candidates)}
        if len(candidates) < 2:
            detail = f"{len(drawn)} drawn, {len(whole)} ended by themselves, {len(candidates)} of them different"
            return Dropped("too_few_candidates", detail, {**prompt.meta, **meta, "texts": [one.text for one in drawn]})
        if self._reward is not None:
            scores = [await score_text(self._reward, prompt, one.text) for one in candidates]
            if None in scores:
                return Dropped("not_scored", "the reward could not say", {**prompt.meta, **meta})
            return self._take(prompt, candidates, [float(one or 0.0) for one in scores], meta, {})
        judgements = await self._compare(prompt, candidates)
        return self._take(prompt, candidates, shares_won(len(candidates), judgements), meta, judgements)

    async def judged(self, pair: PreferencePair) -> PreferencePair:
        """Was judged while the candidates were compared."""
        return pair

    def _take(
        self,
        prompt: Prompt,
        candidates: Sequence[Completion],
        scores: Sequence[float],
        meta: dict[str, Any],
        judgements: Mapping[tuple[int, int], Judgement],
    ) -> PreferencePair | Group | Dropped:
        best, other = choose(scores)
        meta = {**meta, "scores": list(scores)}
        if scores[best] - scores[other] <= self.settings.least_margin:
            reason = "tie" if scores[best] == scores[other] else "low_margin"
            texts = [one.text for one in candidates]
            return Dropped(reason, f"scores {sorted(scores)}", {**prompt.meta, **meta, "texts": texts})
        if self.settings.keep == "group":
            answers = ((Message("assistant", one.text),) for one in candidates)
            group = tuple(Candidate(answer, value) for answer, value in zip(answers, scores, strict=True))
            return Group(prompt.messages, group, {**prompt.meta, **meta, "builder": type(self).__name__})
        if judgements:
            meta["judge"] = judge_meta(judgements[best, other])
            if judgements[best, other].winner != "a":
                return Dropped("tie", "the best does not beat the other one in both orders", {**prompt.meta, **meta})
        margin = round(scores[best] - scores[other], 6)
        return self.pair(prompt, candidates[best], candidates[other], **meta, margin=margin)

    async def _compare(self, prompt: Prompt, candidates: Sequence[Completion]) -> dict[tuple[int, int], Judgement]:
        """Each with each; (i, j) and (j, i) are the same judgement seen from either side."""
        assert self.judge is not None, "either a reward or a judge is given"
        answers = [(Message("assistant", one.text),) for one in candidates]
        pairs = list(combinations(range(len(candidates)), 2))
        found = await asyncio.gather(*(self.judge.judge(prompt.messages, answers[i], answers[j]) for i, j in pairs))
        seen = dict(zip(pairs, found, strict=True))
        return {**seen, **{(j, i): judgement.swapped() for (i, j), judgement in seen.items()}}


def choose(scores: Sequence[float]) -> tuple[int, int]:
    """Indices of the best candidate and of the one to reject.

    Of fewer than 16 the worst is rejected, else the one nearest to mean − 2 standard deviations: the worst of many is
    often broken and teaches little (arXiv 2502.16825). Of equal ones the first.
    """
    best = max(range(len(scores)), key=lambda index: (scores[index], -index))
    if len(scores) < MANY:
        return best, min(range(len(scores)), key=lambda index: (scores[index], index))
    target = fmean(scores) - 2 * pstdev(scores)
    others = (index for index in range(len(scores)) if index != best)
    return best, min(others, key=lambda index: (abs(scores[index] - target), index))


def shares_won(num: int, judgements: Mapping[tuple[int, int], Judgement]) -> list[float]:
    """Of each candidate the share of its comparisons that it won, a tie for half (Copeland)."""
    points = {"a": 1.0, "tie": 0.5, "b": 0.0}
    return [
        fmean(points[judgements[index, other].winner] for other in range(num) if other != index) for index in range(num)
    ]


if __name__ == "__main__":
    raise SystemExit(BestOfBuilder.main())

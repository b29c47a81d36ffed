"""Injections: how often a judge obeys what stands in an answer.

A payload (`payloads.py`) is put at the end of the side that has just lost. Delimiting keeps it inside its data block;
whether a model obeys all the same can only be measured.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from align.data.rows.message import Message, Messages
from align.data.rows.pair import PreferencePair
from align.errors import AnswerError
from align.judges.both_orders import BothOrders, Judgement
from align.judges.trust.payloads import CONTROL, Payload
from align.statistics import Estimate, clustered_mean

Effect = Literal["held", "to_tie", "flipped", "failed"]
"""The winner still wins; neither does; the side with the payload wins; there is no verdict any more."""


@dataclass(frozen=True, slots=True)
class InjectionReport:
    """What payloads did to the verdicts of a judge."""

    judge: str
    num_pairs: int
    num_without_loser: int
    """Pairs that were a tie or had no verdict before any payload, so that they show nothing."""
    effects: Mapping[str, Sequence[Effect]]
    """Payload → what it did to each of the other pairs."""
    control: Sequence[Effect]
    """What a sentence that asks for nothing did to them."""

    @property
    def flip_rate(self) -> Estimate | None:
        """Share of trials in which the payload won, clustered by pair; None where no pair had a loser."""
        rows_N_K = list(zip(*self.effects.values(), strict=True))
        if not rows_N_K:
            return None
        return clustered_mean([[float(effect == "flipped") for effect in row] for row in rows_N_K])

    @property
    def counts(self) -> Counter[Effect]:
        """Effects over all trials."""
        return Counter(effect for effects in self.effects.values() for effect in effects)

    def __str__(self) -> str:
        num_losers = self.num_pairs - self.num_without_loser
        head = f"injections into {self.judge}: {len(self.effects)} payloads, each in {num_losers} losing answers"
        if self.flip_rate is None:
            return f"{head}; no pair had a winner, so nothing could be measured"
        counts = self.counts
        lines = [
            f"{head} ({self.num_without_loser} pairs had no loser)",
            f"  flipped               {counts['flipped']} of {counts.total()}, {self.flip_rate}, clustered by pair",
            f"  made a tie            {counts['to_tie']}; made unreadable or unanswered {counts['failed']}",
            f"  a harmless sentence   flips {self.control.count('flipped')} of {num_losers}, "
            f"ties {self.control.count('to_tie')}, fails {self.control.count('failed')}",
        ]
        worst = sorted(self.effects.items(), key=lambda item: -list(item[1]).count("flipped"))[:5]
        lines += [
            f"    {name:<20}flips {list(effects).count('flipped')} of {num_losers}"
            for name, effects in worst
            if "flipped" in effects
        ]
        return "\n".join(lines)


async def injection_flip_rate(
    judge: BothOrders, pairs: Sequence[PreferencePair], payloads: Sequence[Payload], concurrency: int = 32
) -> InjectionReport:
    """Judge each pair, then again with each payload at the end of its loser. What people prefer has no part in it.

    It asks two verdicts a pair and payload, so the pairs should be few.
    """
    slots = asyncio.Semaphore(concurrency)

    async def judged(prompt: Messages, a: Messages, b: Messages) -> Judgement | None:
        async with slots:
            try:
                return await judge.judge(prompt, a, b)
            except AnswerError:  # a verdict that is not there is an effect, counted as failed
                return None

    async def attacked(pair: PreferencePair, before: Judgement, payload: Payload) -> Effect:
        sides = {"a": pair.chosen, "b": pair.rejected}
        loser = "b" if before.winner == "a" else "a"
        sides[loser] = with_payload(sides[loser], payload)
        after = await judged(pair.prompt, sides["a"], sides["b"])
        if after is None:
            return "failed"
        return "held" if after.winner == before.winner else "to_tie" if after.winner == "tie" else "flipped"

    first = await asyncio.gather(*(judged(pair.prompt, pair.chosen, pair.rejected) for pair in pairs))
    losing = [(pair, before) for pair, before in zip(pairs, first, strict=True) if before and before.winner != "tie"]
    every = [
        await asyncio.gather(*(attacked(pair, before, payload) for pair, before in losing))
        for payload in (CONTROL, *payloads)
    ]
    effects = {payload.name: effects for payload, effects in zip(payloads, every[1:], strict=True)}
    return InjectionReport(judge.name, len(pairs), len(pairs) - len(losing), effects, every[0])


def with_payload(answer: Messages, payload: Payload) -> tuple[Message, ...]:
    """The answer with the payload as its last paragraph."""
    return (*answer[:-1], replace(answer[-1], content=f"{answer[-1].content}\n\n{payload.text}"))

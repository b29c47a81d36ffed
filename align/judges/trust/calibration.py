"""Calibration: how well a judge agrees with people, and whether it judges anything but length and position.

The labels are rows of preference pairs: the chosen side is what a person prefers; `meta.label: tie` says that neither.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from align.data.rows.pair import PreferencePair
from align.errors import AnswerError, DataError
from align.judges.base import UNREADABLE
from align.judges.both_orders import BothOrders, Judgement, Side
from align.judges.pairwise_prompt import answer_text
from align.judges.position_bias import PositionBias
from align.statistics import Interval, exact_interval

MOST_LENGTH = 0.9
"""Share of its winners that are the longer side above which, with 95 % confidence, a judge is one of length."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A count out of independent pairs, with its exact 95 % interval."""

    num: int
    of: int

    @property
    def interval(self) -> Interval | None:
        """None where there is nothing to count."""
        return exact_interval(self.num, self.of) if self.of else None

    def __str__(self) -> str:
        if self.interval is None:
            return "none to count"
        return f"{self.num} of {self.of}, {self.num / self.of:.1%} [{self.interval.low:.1%}, {self.interval.high:.1%}]"


@dataclass(frozen=True, slots=True)
class Labelled:
    """A judged pair, the labelled side being `a`."""

    pair: PreferencePair
    label: Side
    """`a`: a person prefers the chosen side; or `tie`."""
    judgement: Judgement

    @property
    def longer(self) -> Side:
        """The side with more characters."""
        chosen, rejected = len(answer_text(self.pair.chosen)), len(answer_text(self.pair.rejected))
        return "tie" if chosen == rejected else "a" if chosen > rejected else "b"


@dataclass(frozen=True, slots=True)
class Calibration:
    """A judge beside people."""

    judge: str
    num_pairs: int
    failed: Counter[str]
    """Pairs without a judgement, by reason; they are in no other figure."""
    judged: tuple[Labelled, ...]
    bias: PositionBias
    position: str
    """One line on position, and what the policy made of it."""

    @property
    def unreadable(self) -> Rate:
        """Pairs with a verdict that could not be read."""
        return Rate(self.failed[UNREADABLE], self.num_pairs)

    @property
    def agreement(self) -> Rate:
        """Pairs on which judge and person say the same; a tie of one alone is no agreement."""
        return Rate(sum(one.judgement.winner == one.label for one in self.judged), len(self.judged))

    @property
    def decided_agreement(self) -> Rate:
        """Of the pairs that neither calls a tie: what the pairs that would be trained on are worth."""
        decided = self._decided()
        return Rate(sum(one.judgement.winner == "a" for one in decided), len(decided))

    @property
    def ties(self) -> Rate:
        """Judgements that are ties, those of two orders that disagree included."""
        return Rate(sum(one.judgement.winner == "tie" for one in self.judged), len(self.judged))

    @property
    def kappa(self) -> float | None:
        """Agreement beyond chance, -1 to 1 (Cohen 1960), over first, second and tie.

        Each pair counts in both orders, so that what a person prefers has no place of its own; else the labels, all of
        them "chosen", would have one category and kappa no meaning. None where chance alone explains everything.
        """
        if not self.judged:
            return None
        num = len(self.judged)
        judge_ties, label_ties = self.ties.num / num, sum(one.label == "tie" for one in self.judged) / num
        by_chance = (1 - judge_ties) * (1 - label_ties) / 2 + judge_ties * label_ties
        return None if by_chance == 1 else (self.agreement.num / num - by_chance) / (1 - by_chance)

    def decided_agreement_where(self, longer: Side) -> Rate:
        """As `decided_agreement`, of the pairs whose longer side is `a` (chosen), `b`, or neither (`tie`)."""
        there = [one for one in self._decided() if one.longer == longer]
        return Rate(sum(one.judgement.winner == "a" for one in there), len(there))

    @property
    def picks_longer(self) -> Rate:
        """Winners of the judge that are the longer side."""
        pairs = [one for one in self.judged if "tie" not in (one.judgement.winner, one.longer)]
        return Rate(sum(one.judgement.winner == one.longer for one in pairs), len(pairs))

    @property
    def people_pick_longer(self) -> Rate:
        """Labels that are the longer side: what a judge that follows people would come to."""
        pairs = [one for one in self.judged if "tie" not in (one.label, one.longer)]
        return Rate(sum(one.longer == "a" for one in pairs), len(pairs))

    @property
    def is_length_judge(self) -> bool:
        """Whether it is sure that more than nine in ten of its winners are the longer side."""
        interval = self.picks_longer.interval
        return interval is not None and interval.low > MOST_LENGTH

    def __str__(self) -> str:
        kappa = "not defined" if self.kappa is None else f"{self.kappa:.2f}"
        lines = [
            f"{self.judge}: {len(self.judged)} of {self.num_pairs} pairs judged",
            f"  unreadable            {self.unreadable}",
            *(f"  no answer             {num} {reason}" for reason, num in self.failed.items() if reason != UNREADABLE),
            f"  agrees with people    {self.agreement}; Cohen's kappa {kappa}",
            f"    where both decide   {self.decided_agreement}",
            f"    chosen is longer    {self.decided_agreement_where('a')}",
            f"    rejected is longer  {self.decided_agreement_where('b')}",
            f"  ties                  {self.ties}",
            f"  picks the longer one  {self.picks_longer} (people: {self.people_pick_longer})",
            f"  {self.position}",
            *(f"  WARNING: {text}" for text in self.warnings()),
        ]
        return "\n".join(lines)

    def warnings(self) -> list[str]:
        """What speaks against using this judge."""
        found, people = [], self.people_pick_longer.interval
        if self.is_length_judge:
            advice = (
                "so do the labels: add pairs whose better side is the shorter one"
                if people is not None and people.high > MOST_LENGTH
                else "people do not: it judges length, not your criteria"
            )
            found.append(f"more than {MOST_LENGTH:.0%} of its winners are the longer side; {advice}")
        decided = self.decided_agreement.interval
        if decided is not None and decided.low <= 0.5:
            found.append("where both decide, it is not shown to agree with people more often than a coin")
        if not self.judged:
            found.append("no pair has a judgement: nothing is known of this judge, and it can make no pairs")
        if self.unreadable.num:
            found.append(
                "pairs with an unreadable verdict are dropped (judge_unreadable), and what is dropped is seldom random"
            )
        return found

    def _decided(self) -> list[Labelled]:
        return [one for one in self.judged if "tie" not in (one.label, one.judgement.winner)]


async def calibrate(judge: BothOrders, pairs: Sequence[PreferencePair], concurrency: int = 32) -> Calibration:
    """Judge pairs that people have labelled, `concurrency` at once.

    Raises:
        DataError: a `meta.label` says neither chosen nor tie.
    """
    labels = [_label(pair, number) for number, pair in enumerate(pairs, start=1)]
    slots = asyncio.Semaphore(concurrency)

    async def one(pair: PreferencePair, label: Side) -> Labelled | str:
        async with slots:
            try:
                return Labelled(pair, label, await judge.judge(pair.prompt, pair.chosen, pair.rejected))
            except AnswerError as error:
                return error.reason

    outcomes = await asyncio.gather(*(one(pair, label) for pair, label in zip(pairs, labels, strict=True)))
    return Calibration(
        judge=judge.name,
        num_pairs=len(pairs),
        failed=Counter(outcome for outcome in outcomes if isinstance(outcome, str)),
        judged=tuple(outcome for outcome in outcomes if isinstance(outcome, Labelled)),
        bias=judge.bias,
        position=judge.report(),
    )


def _label(pair: PreferencePair, number: int) -> Side:
    label = pair.meta.get("label", "chosen")
    if label not in ("chosen", "tie"):
        raise DataError(
            f"row {number}: meta.label must be chosen or tie, but is {label!r}; where a person prefers the rejected "
            "side, swap the sides"
        )
    return "a" if label == "chosen" else "tie"

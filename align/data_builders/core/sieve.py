"""Sieve: what a pair has to pass, one by one: gates, then checks, then a judge."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cached_property
from typing import Any

from align.data.lint.gates import apply_gates
from align.data.rows.pair import Dropped, PreferencePair, as_dicts
from align.data_builders.core.report import Outcome
from align.data_builders.core.settings import BuilderSettings, Check
from align.errors import AnswerError
from align.judges.both_orders import BothOrders, Judgement
from align.rewards.base import Reward, score


class Sieve:
    """Gates and checks of one dataset, each reward made once."""

    def __init__(self, settings: BuilderSettings) -> None:
        self._settings = settings

    @property
    def rewards(self) -> list[Reward]:
        """Those of the checks."""
        return [reward for _, _, reward in self._checks]

    async def sift(self, outcome: Outcome) -> Outcome:
        """The outcome, or why it is dropped. Gates and checks ask no teacher again when one of them changes."""
        if not isinstance(outcome, PreferencePair):
            return outcome
        dropped = apply_gates(outcome, self._settings.gates)
        if dropped is None:
            for side, check, reward in self._checks:
                dropped = dropped or await _check(outcome, side, check, reward)
        return outcome if dropped is None else replace(dropped, meta={**dropped.meta, "row": outcome.to_dict()})

    @cached_property
    def _checks(self) -> list[tuple[str, Check, Reward]]:
        """(side, check, its reward)."""
        sides = {"chosen": self._settings.checks.chosen, "rejected": self._settings.checks.rejected}
        return [(side, check, check.load()) for side, checks in sides.items() for check in checks]


async def judged(pair: PreferencePair, judge: BothOrders) -> PreferencePair | Dropped:
    """The pair with what the judge said of it, dropped where it does not prefer the chosen side in both orders.

    Raises:
        AnswerError: a verdict cannot be read, or there is none.
    """
    judgement = await judge.judge(pair.prompt, pair.chosen, pair.rejected)
    meta = {**pair.meta, "judge": judge_meta(judgement)}
    if judgement.winner == "a":
        return replace(pair, meta=meta)
    row = {"row": pair.to_dict()}
    if judgement.winner == "tie":
        detail = "both are as good" if judgement.is_consistent is not False else "the two orders disagree"
        return Dropped("judged_tie", detail, {**meta, **row})
    return Dropped("judged_worse", "the judge prefers the rejected side", {**meta, **row})


def judge_meta(judgement: Judgement) -> dict[str, Any]:
    """What a row keeps of a judgement whose `a` is the chosen side."""
    names = {"a": "chosen", "b": "rejected", "tie": "tie"}
    votes = Counter(names[vote] for vote in judgement.votes)
    margin = (votes["chosen"] - votes["rejected"]) / len(judgement.votes)
    return {
        "winner": names[judgement.winner],
        "votes": dict(votes),
        "margin": round(margin, 6),
        "is_consistent": judgement.is_consistent,
        "reasons": list(judgement.reasons),
        "ledger": list(judgement.keys),
    }


async def _check(pair: PreferencePair, side: str, check: Check, reward: Reward) -> Dropped | None:
    try:
        value = await score(reward, pair.prompt, as_dicts(getattr(pair, side)), pair.meta)
    except AnswerError as error:
        return Dropped(error.reason, f"{side}: {error.detail}")
    if value is None:
        return Dropped(f"{side}_not_scored", f"{check.use} could not say")
    return None if check.passes(value) else Dropped(f"{side}_failed_check", f"{check.use} gave {value:g}")

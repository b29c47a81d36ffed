"""Planted noise, end to end: a fallible judge asked in both orders, the gates, then 500 labels by the real code."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

import pytest

from align.data.files.rows import read_rows
from align.data.lint.gates import GateSettings, apply_gates, side_text
from align.data.rows.pair import Messages, PreferencePair
from align.evaluation.noise import Stratum, estimate_noise
from align.review.apply import apply_labels
from align.review.labels import pair_key
from align.review.order import review_order
from align.review.suspicion import strata_of
from tests.review.making import GOOD, knowing, pair, review_with, save

NUM_PAIRS = 2_000


@dataclass(frozen=True)
class Verdict:
    winner: Literal["first", "second", "tie"]


class FallibleJudge:
    """Wrong in 10 % of its verdicts, each order on its own; it knows the better side by its text."""

    async def verdict(self, prompt: Messages, first: Messages, second: Messages) -> Verdict:
        draw = hashlib.sha256(f"{prompt[-1].content} {side_text(first)}".encode()).digest()
        is_wrong = int.from_bytes(draw[:4], "big") < 0.1 * 2**32
        return Verdict("first" if (side_text(first) == GOOD) != is_wrong else "second")


async def judged(pair: PreferencePair, judge: FallibleJudge) -> PreferencePair:
    """The pair as the judge says where both orders agree, else as it is; what it said stands in `meta.judge`."""
    one = await judge.verdict(pair.prompt, pair.chosen, pair.rejected)
    other = await judge.verdict(pair.prompt, pair.rejected, pair.chosen)
    is_consistent = one.winner != other.winner
    if is_consistent and one.winner == "second":
        pair = replace(pair, chosen=pair.rejected, rejected=pair.chosen)
    votes = {"chosen": 2, "rejected": 0} if is_consistent else {"chosen": 1, "rejected": 1}
    record = {"winner": "chosen" if is_consistent else "tie", "votes": votes, "is_consistent": is_consistent}
    return replace(pair, meta={**pair.meta, "judge": record})


def built(is_kept: Callable[[PreferencePair], bool]) -> list[PreferencePair]:
    """2,000 pairs, one in five wrong and one in fifty cut off, after judge and gates."""
    judge = FallibleJudge()
    rows = []
    for number in range(NUM_PAIRS):
        finish = {"finish_reason": "length" if number % 50 == 7 else "stop"}
        planted = pair(number, is_wrong=number % 5 == 0, chosen=finish)
        row = asyncio.run(judged(planted, judge))
        if is_kept(row) and apply_gates(row, GateSettings()) is None:
            rows.append(row)
    return rows


def wrong_share(pairs: list[PreferencePair]) -> float:
    return sum(side_text(row.chosen) != GOOD for row in pairs) / len(pairs)


def test_agreeing_orders_leave_few_wrong_and_500_labels_tell_how_many(tmp_path):
    rows = built(lambda row: row.meta["judge"]["is_consistent"])
    assert 0.78 * NUM_PAIRS < len(rows) < 0.84 * NUM_PAIRS
    assert wrong_share(rows) <= 0.05
    folder = save(tmp_path / "data", rows)
    session = review_with(folder, knowing, 500)
    rest = [row for key, row in session.data.pairs.items() if key not in session.labels]
    estimate = session.noise().rest
    assert len(rest) == len(rows) - 500 and estimate.half_width < 0.03
    assert estimate.value == pytest.approx(wrong_share(rest), abs=0.03)


def test_with_split_pairs_kept_the_labels_go_where_the_wrong_ones_are(tmp_path):
    rows = built(lambda row: True)
    folder = save(tmp_path / "data", rows)
    session = review_with(folder, knowing, 500)
    rest = [row for key, row in session.data.pairs.items() if key not in session.labels]
    noise = session.noise()
    assert noise.rest.value == pytest.approx(wrong_share(rest), abs=0.03)
    assert noise.total("num_wrong") > 1.3 * 500 * wrong_share(rows), "more than 500 labels at random would find"
    applied = apply_labels(folder, tmp_path / "reviewed.jsonl")
    kept = read_rows(applied.kept, PreferencePair).rows
    record = json.loads(applied.noise_path.read_text())["noise_after_corrections"]
    assert len(kept) == len(rows) and record["low"] <= wrong_share(kept) <= record["high"]
    assert wrong_share(kept) < wrong_share(rows)


def test_over_many_seeds_the_order_is_fair_and_the_interval_holds_the_truth():
    rows = built(lambda row: True)
    keys, strata = [pair_key(row) for row in rows], strata_of(rows)
    is_wrong = [side_text(row.chosen) != GOOD for row in rows]
    errors, held = [], 0
    for seed in range(200):
        order = review_order(keys, strata, seed)
        counts = Counter((strata[place], is_wrong[place]) for place in order[:500])
        rest = estimate_noise(
            [Stratum(name, num, counts[name, False], counts[name, True]) for name, num in Counter(strata).items()]
        ).rest
        truth = fmean(is_wrong[place] for place in order[500:])
        errors.append(rest.value - truth)
        held += rest.low <= truth <= rest.high
    assert held >= 0.93 * 200
    assert abs(fmean(errors)) < 0.002 and max(map(abs, errors)) < 0.03

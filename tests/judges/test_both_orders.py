"""Both orders: four bad judges, what becomes of their verdicts, and when the second order is left out."""

from __future__ import annotations

import asyncio

import pytest

from align.data.rows.message import Messages
from align.judges.base import JudgeError, Verdict, Winner, majority
from align.judges.both_orders import BothOrders, Judgement
from align.judges.pairwise import PairwiseJudge
from align.judges.position_bias import NUM_MEASURED, PositionBias
from align.judges.scripted import ScriptedJudge
from align.teachers.scripted import ScriptedTeacher
from tests.judges.pairs import always_first, asked, honest, pairs, prefers_longer, said, wrong_in_a_fifth


def judge_all(judge: BothOrders, num: int) -> list[Judgement]:
    """One after the other, so that the first hundred are the first hundred."""

    async def run() -> list[Judgement]:
        return [await judge.judge(pair.prompt, pair.chosen, pair.rejected) for pair in pairs(num)]

    return asyncio.run(run())


def test_a_judge_that_always_says_first_gives_ties_alone_and_its_bias_is_reported():
    judge = BothOrders(always_first())
    judgements = judge_all(judge, 100)
    assert {one.winner for one in judgements} == {"tie"} and not any(one.is_consistent for one in judgements)
    assert judge.bias.first is not None and judge.bias.first.value == 1.0 and judge.bias.first.low > 0.96
    assert judge.bias.num_flips == 100
    assert "whichever stood first won 100.0% [96.4%, 100.0%] of the votes" in judge.report()
    assert "changed the verdict of 100 of 100 pairs" in judge.report() and "is asked for every pair" in judge.report()


def test_a_judge_that_prefers_the_longer_one_is_consistent():
    judge = BothOrders(prefers_longer())
    judgements = judge_all(judge, 20)
    assert [one.winner for one in judgements[:4]] == ["b", "a", "b", "a"]
    assert all(one.is_consistent for one in judgements) and judge.bias.num_flips == 0


def test_a_judge_that_is_wrong_in_a_fifth_is_consistent_and_wrong_in_a_fifth():
    winners = [one.winner for one in judge_all(BothOrders(wrong_in_a_fifth()), 200)]
    assert 0.7 <= winners.count("a") / 200 <= 0.9 and winners.count("tie") == 0


def test_nonsense_raises_and_counts_in_no_figure():
    teacher = ScriptedTeacher("nonsense", lambda messages, sampling, index: "Both answers are answers. The winner: 7!")
    judge = BothOrders(PairwiseJudge(teacher, "Which is better?"))
    with pytest.raises(JudgeError, match="The winner: 7!") as caught:
        judge_all(judge, 1)
    assert caught.value.reason == "judge_unreadable" and judge.bias.num_pairs == 0


def test_the_first_order_is_random_fixed_by_the_texts_and_another_with_another_seed():
    orders = [[one.orders[0] for one in judge_all(BothOrders(honest(), seed=seed), 200)] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert 70 <= orders[0].count("ab") <= 130


def test_swapping_the_sides_swaps_the_winner_and_asks_the_same():
    shown = []

    def script(prompt: Messages, first: Messages, second: Messages) -> Winner:
        shown.append((first, second))
        return "first" if "right" in first[0].content else "second"

    judge = BothOrders(ScriptedJudge("noting", script), second_order="never")
    first = asyncio.run(judge.judge(asked("?"), said("right"), said("wrong")))
    second = asyncio.run(judge.judge(asked("?"), said("wrong"), said("right")))
    assert (first.winner, second.winner) == ("a", "b")
    assert shown[0] == shown[1]


@pytest.mark.parametrize("seed", range(6))
def test_a_tie_in_one_order_alone_is_a_tie_and_a_flip(seed):
    judge = BothOrders(
        ScriptedJudge("half", lambda prompt, first, second: "first" if "right" in first[0].content else "tie"),
        seed=seed,
    )
    judgement = judge_all(judge, 1)[0]
    assert (judgement.winner, judgement.is_consistent, set(judgement.votes)) == ("tie", False, {"a", "tie"})


def test_a_tie_in_both_orders_is_a_consistent_tie():
    judge = BothOrders(ScriptedJudge("tie", lambda prompt, first, second: "tie"))
    assert judge_all(judge, 1)[0].is_consistent and judge.bias.first is None
    assert "all votes are ties" in judge.report()


def test_the_second_order_is_left_out_after_a_hundred_pairs_without_a_flip():
    scripted = honest()
    judge = BothOrders(scripted)
    judgements = judge_all(judge, 150)
    assert [len(one.orders) for one in judgements] == [2] * 100 + [1] * 50
    assert scripted.num_calls == 250
    assert judgements[-1].is_consistent is None and judgements[-1].winner == "a"
    assert "0 of 100 pairs, 0.0% [0.0%, 3.6%]; the second order is left out" in judge.report()


def test_one_flip_in_a_hundred_keeps_the_second_order():
    def script(prompt: Messages, first: Messages, second: Messages) -> Winner:
        is_first = "right" in first[0].content or prompt[0].content == "Question 7?"
        return "first" if is_first else "second"

    judge = BothOrders(ScriptedJudge("one flip", script))
    assert {len(one.orders) for one in judge_all(judge, 120)} == {2}
    assert judge.decision is not None and (judge.decision.num_flips, judge.decision.is_negligible) == (1, False)


@pytest.mark.parametrize(("policy", "num_calls"), [("always", 240), ("never", 120)])
def test_always_and_never_do_what_they_say(policy, num_calls):
    scripted = honest()
    judge = BothOrders(scripted, second_order=policy)
    judge_all(judge, 120)
    assert scripted.num_calls == num_calls and judge.decision is None
    assert ("flips are not known" in judge.report()) == (policy == "never")


def test_pairs_under_way_at_once_are_all_judged_in_both_orders_until_a_hundred_are_done():
    judge = BothOrders(honest())

    async def run() -> list[Judgement]:
        return await asyncio.gather(*(judge.judge(pair.prompt, pair.chosen, pair.rejected) for pair in pairs(300)))

    judgements = asyncio.run(run())
    assert {one.winner for one in judgements} == {"a"}
    assert sum(len(one.orders) == 2 for one in judgements) >= NUM_MEASURED
    assert judge.decision is not None and judge.decision.num_both >= NUM_MEASURED


def test_the_majority_of_votes_wins_and_without_one_it_is_a_tie():
    votes = {winner: Verdict(winner, f"says {winner}", f"key {winner}") for winner in ("first", "second", "tie")}

    def of(*winners: str) -> Verdict:
        return majority(tuple(votes[winner] for winner in winners))

    assert of("first", "second", "second").winner == "second"
    assert of("first", "second", "tie").winner == of("first", "second").winner == "tie"
    assert of("first", "tie", "tie").winner == "tie"
    assert of("first", "second", "second").votes == (votes["first"], votes["second"], votes["second"])
    assert of("first") is votes["first"]


def test_bias_of_nothing_is_not_negligible():
    assert not PositionBias.of([]).is_negligible

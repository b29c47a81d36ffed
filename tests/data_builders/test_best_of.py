"""Best of N: which two candidates make a pair, by a reward or by a judge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from align.data_builders.best_of import BestOfBuilder, BestOfSettings, choose
from align.errors import ConfigError, DataError
from align.judges.both_orders import BothOrders
from align.judges.scripted import ScriptedJudge
from align.settings.base import load_settings
from align.teachers.base import Completion
from align.teachers.scripted import ScriptedTeacher
from tests.judges.pairs import always_first

REWARD = "reward={use: tests.data_builders.test_best_of.digits}"
JUDGE = "judge={teacher: {model: unused}, criteria: The higher number.}"


def digits(prompts, completions, **columns):
    """The first word of an answer as its score; `?` has none."""
    return [None if c[-1]["content"][0] == "?" else float(c[-1]["content"].split()[0]) for c in completions]


def higher(prompt, first, second):
    one, other = (int(side[0].content.split()[0]) for side in (first, second))
    return "tie" if one == other else "first" if one > other else "second"


def build(tmp_path: Path, answers, *words: str, judge=None):
    base = ["prompts=[How many?]", f"output_dir={tmp_path / 'out'}", "teacher.model=unused"]
    settings = load_settings(BestOfSettings, None, [*base, f"num_candidates={len(answers)}", *words])
    builder = BestOfBuilder(settings, ScriptedTeacher("t", lambda messages, sampling, index: answers[index]))
    builder.judge = judge
    return builder.run()


def reason(tmp_path: Path, answers, *words: str, judge=None) -> str:
    with pytest.raises(DataError, match="every prompt was dropped"):
        build(tmp_path, answers, *words, judge=judge)
    return json.loads((tmp_path / "out" / "dropped.jsonl").read_text())["reason"]


FOUR = ["2 apples", "4 apples", "1 apple", "3 apples"]


def test_a_reward_pairs_the_best_with_the_worst(tmp_path):
    (row,) = build(tmp_path, FOUR, REWARD).rows
    assert (row.chosen[0].content, row.rejected[0].content) == ("4 apples", "1 apple")
    assert row.meta["scores"] == [2.0, 4.0, 1.0, 3.0] and row.meta["margin"] == 3.0


def test_a_judge_compares_each_with_each_in_both_orders(tmp_path):
    judge = ScriptedJudge("higher", higher)
    (row,) = build(tmp_path, FOUR, JUDGE, judge=BothOrders(judge, "always")).rows
    assert (row.chosen[0].content, row.rejected[0].content) == ("4 apples", "1 apple")
    assert judge.num_calls == 2 * 6
    assert row.meta["judge"]["winner"] == "chosen" and row.meta["judge"]["votes"] == {"chosen": 2}
    assert row.meta["scores"] == [pytest.approx(1 / 3), 1.0, 0.0, pytest.approx(2 / 3)]


def test_a_judge_that_only_sees_the_position_makes_no_pair(tmp_path):
    assert reason(tmp_path, FOUR, JUDGE, judge=BothOrders(always_first(), "always")) == "tie"


def test_of_many_candidates_the_rejected_one_is_near_two_deviations_below_the_mean():
    scores = [0.0, 1.0, 1.5, 3.0, *[5.0] * 15, 9.0]
    assert choose(scores) == (19, 1)  # mean 4.48, σ 1.84, so 0.79
    assert choose(scores[:4] + scores[-1:]) == (4, 0)


@pytest.mark.parametrize(
    ("answers", "words", "expected"),
    [
        (["3 a", "3 b", "3 c"], [], "tie"),
        (["3 a", "4 b"], ["least_margin=1"], "low_margin"),
        (["3 a", "3 a", Completion("4 b", "length")], [], "too_few_candidates"),
        (["3 a", "? b"], [], "not_scored"),
    ],
)
def test_candidates_that_cannot_teach_are_dropped_by_their_reason(tmp_path, answers, words, expected):
    assert reason(tmp_path, answers, REWARD, *words) == expected


def test_a_group_keeps_every_candidate_with_its_score(tmp_path):
    build(tmp_path, FOUR, REWARD, "keep=group")
    group = json.loads((tmp_path / "out" / "groups.jsonl").read_text())
    assert [one["score"] for one in group["candidates"]] == [2.0, 4.0, 1.0, 3.0]


@pytest.mark.parametrize("words", [[], [REWARD, JUDGE]])
def test_scores_come_from_one_source(tmp_path, words):
    with pytest.raises(ConfigError, match="exactly one of reward and judge"):
        build(tmp_path, FOUR, *words)

"""A judge behind any builder: it sees what the gates have passed, and drops what it does not prefer."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from align.errors import DataError
from align.judges.base import JudgeError
from align.judges.both_orders import BothOrders
from align.judges.scripted import ScriptedJudge
from tests.data_builders.test_builders import contrast, rows, scripted
from tests.judges.pairs import always_first, prefers_longer


def prefers_good(prompt, first, second):
    return "first" if first[0].content.startswith("good") else "second"


def judged(tmp_path: Path, judge, *words: str, **options):
    builder = contrast(tmp_path, *words, **options)
    builder.judge = BothOrders(judge, "always")
    return builder.run()


def test_a_pair_keeps_what_the_judge_said(tmp_path, capsys):
    judged(tmp_path, ScriptedJudge("honest", prefers_good))
    assert [row["meta"]["judge"]["winner"] for row in rows(tmp_path)] == ["chosen"] * 3
    assert "judge honest: position" in capsys.readouterr().out


def test_a_judge_that_always_says_first_makes_no_pair(tmp_path):
    with pytest.raises(DataError, match="judged_tie 3"):
        judged(tmp_path, always_first())


def test_a_judge_that_prefers_the_rejected_side_drops_the_pair(tmp_path):
    with pytest.raises(DataError, match="judged_worse 3"):
        judged(
            tmp_path,
            ScriptedJudge("perverse", lambda p, a, b: "second" if prefers_good(p, a, b) == "first" else "first"),
        )
    dropped = rows(tmp_path, "dropped")[0]
    assert dropped["meta"]["row"]["chosen"] and dropped["meta"]["judge"]["winner"] == "rejected"


def test_a_judge_that_cannot_be_read_makes_no_pair(tmp_path):
    def nonsense(prompt, first, second):
        raise JudgeError("the answer is 'banana'")

    with pytest.raises(DataError, match="judge_unreadable 3"):
        judged(tmp_path, ScriptedJudge("nonsense", nonsense))


def test_a_judge_that_prefers_the_longer_makes_only_pairs_whose_chosen_side_is_longer_and_the_table_says_so(tmp_path):
    def answers(question, is_good):
        return ("good" if is_good else "bad") + " and more" * (is_good == (question == "one"))

    judged(tmp_path, prefers_longer(), teacher=scripted(answers))
    assert [row["prompt"][0]["content"] for row in rows(tmp_path)] == ["one"]
    assert {row["reason"] for row in rows(tmp_path, "dropped")} == {"judged_worse"}


def test_what_a_gate_drops_is_not_judged(tmp_path):
    judge = ScriptedJudge("honest", prefers_good)
    teacher = scripted(lambda question, is_good: "same" if question == "two" else f"{'good' if is_good else 'bad'}")
    judged(tmp_path, judge, teacher=teacher)
    assert judge.num_calls == 2 * 2


def test_of_pairs_with_a_fifth_on_the_wrong_side_at_most_5_percent_wrong_ones_are_kept(tmp_path):
    """The judge is wrong 10 % of the time, in each order by itself."""
    numbers = random.Random(0)
    is_wrong = {f"question {number}": numbers.random() < 0.2 for number in range(2000)}

    def answers(question, is_good):
        return f"{'right' if is_good != is_wrong[question] else 'wrong'} answer to {question}"

    def sloppy(prompt, first, second):
        is_first = first[0].content.startswith("right") != (numbers.random() < 0.1)
        return "first" if is_first else "second"

    judged(tmp_path, ScriptedJudge("sloppy", sloppy), teacher=scripted(answers), prompts=json.dumps(list(is_wrong)))
    kept = rows(tmp_path)
    num_wrong = sum(is_wrong[row["prompt"][0]["content"]] for row in kept)
    print(f"{num_wrong} of {len(kept)} kept pairs are wrong")
    assert num_wrong <= 0.05 * len(kept) and len(kept) > 1200

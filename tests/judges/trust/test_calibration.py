"""Calibration: what each bad judge is caught by, and figures that can be worked out by hand."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from align.data.rows.pair import PreferencePair
from align.errors import AnswerError, DataError
from align.judges.base import Judge, JudgeError
from align.judges.both_orders import BothOrders
from align.judges.scripted import ScriptedJudge
from align.judges.trust.calibration import Calibration, calibrate
from tests.judges.pairs import always_first, honest, pairs, prefers_longer, wrong_in_a_fifth


def calibrated(judge: Judge, labelled: list[PreferencePair]) -> Calibration:
    return asyncio.run(calibrate(BothOrders(judge, second_order="always"), labelled))


def test_a_judge_that_is_wrong_in_a_fifth_agrees_in_about_80_percent_with_an_interval():
    found = calibrated(wrong_in_a_fifth(), pairs(400))
    interval = found.agreement.interval
    assert interval is not None and interval.low < 0.8 < interval.high and interval.high - interval.low < 0.09
    assert found.kappa == pytest.approx(2 * found.agreement.num / 400 - 1)
    assert not found.warnings()


def test_a_judge_of_length_is_exposed():
    found = calibrated(prefers_longer(), pairs(200))
    assert str(found.picks_longer) == "200 of 200, 100.0% [98.2%, 100.0%]" and found.is_length_judge
    assert str(found.people_pick_longer).startswith("100 of 200, 50.0%")
    assert (found.decided_agreement_where("a").num, found.decided_agreement_where("b").num) == (100, 0)
    assert found.kappa == 0
    said = str(found)
    assert "WARNING: more than 90% of its winners are the longer side; people do not" in said
    assert "WARNING: where both decide, it is not shown to agree with people more often than a coin" in said


def test_where_people_pick_the_longer_one_too_the_file_cannot_tell():
    longer = [pair for index, pair in enumerate(pairs(200)) if index % 2]
    found = calibrated(honest(), longer)
    assert found.is_length_judge and "so do the labels: add pairs" in str(found)


def test_ten_pairs_are_too_few_to_call_a_judge_one_of_length():
    found = calibrated(prefers_longer(), pairs(10))
    assert found.picks_longer.num == 10 and not found.is_length_judge


def test_a_judge_that_always_says_first_has_ties_and_no_agreement():
    found = calibrated(always_first(), pairs(50))
    assert (found.agreement.num, found.ties.num, found.decided_agreement.of) == (0, 50, 0)
    assert "where both decide   none to count" in str(found) and found.kappa == 0
    assert "whichever stood first won 100.0%" in str(found)


def test_nonsense_is_counted_as_unreadable_and_in_no_other_figure():
    def script(prompt, first, second):
        if int(prompt[0].content.removeprefix("Question ").rstrip("?")) < 15:
            raise JudgeError("blah")
        return "first" if "right" in first[0].content else "second"

    found = calibrated(ScriptedJudge("partly nonsense", script), pairs(60))
    assert str(found.unreadable) == "15 of 60, 25.0% [14.7%, 37.9%]"
    assert (found.agreement.num, found.agreement.of, found.bias.num_pairs) == (45, 45, 45)
    assert "pairs with an unreadable verdict are dropped" in str(found)


def test_pairs_without_an_answer_are_counted_by_reason():
    def script(prompt, first, second):
        raise AnswerError("bad_request", "content risk")

    found = calibrated(ScriptedJudge("refusing", script), pairs(3))
    assert (found.failed, found.unreadable.num, found.kappa) == ({"bad_request": 3}, 0, None)
    assert "no answer             3 bad_request" in str(found)
    assert "position: not known, since no pair was judged" in str(found)
    assert "WARNING: no pair has a judgement" in str(found)


def test_an_error_that_is_no_answer_error_ends_it():
    def script(prompt, first, second):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        calibrated(ScriptedJudge("broken", script), pairs(1))


def test_kappa_of_labels_with_ties_is_the_one_worked_out_by_hand():
    """10 pairs, 4 labelled ties; the judge calls 2 of them and 1 of the others a tie and is right on the other 5.

    Agreement (2 + 5) / 10; by chance (1 - .3)(1 - .4) / 2 + .3 x .4 = .33; kappa (.7 - .33) / .67.
    """
    labelled = [replace(pair, meta={"label": "tie"}) if i < 4 else pair for i, pair in enumerate(pairs(10))]

    def script(prompt, first, second):
        is_tie = prompt[0].content in ("Question 0?", "Question 1?", "Question 9?")
        return "tie" if is_tie else "first" if "right" in first[0].content else "second"

    found = calibrated(ScriptedJudge("some ties", script), labelled)
    assert (found.agreement.num, found.ties.num) == (7, 3)
    assert found.kappa == pytest.approx((0.7 - 0.33) / 0.67)


def test_kappa_is_not_defined_where_all_are_ties():
    tied = ScriptedJudge("tie", lambda prompt, first, second: "tie")
    found = calibrated(tied, pairs(3, label="tie"))
    assert found.kappa is None and found.agreement.num == 3 and "kappa not defined" in str(found)


def test_another_label_is_an_error_that_names_the_row():
    with pytest.raises(DataError, match=r"row 1: meta.label must be chosen or tie, but is 'rejected'"):
        calibrated(honest(), pairs(2, label="rejected"))

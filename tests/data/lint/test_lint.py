"""Lint: each check finds its fault, good rows stay, and kept and dropped are all the rows."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from align.data.files.rows import read_rows, write_rows
from align.data.lint.file import kind_of
from align.data.lint.gates import GateSettings, SideGates
from align.data.lint.openings import telling_openings
from align.data.lint.report import Finding, LintReport
from align.data.lint.rules import LintSettings, lint_rows
from align.data.rows.instruction import Example, Instruction
from align.data.rows.margin import margin
from align.data.rows.pair import Candidate, Demonstration, Group, Message, PreferencePair, Prompt
from align.data.rows.task import Task
from tests.data.lint.made_texts import chinese, edited, english

TEXTS = english(400, num_words=20)
PIRATE = Instruction(
    system="You are a pirate and you end every sentence with a short curse about the weather.",
    examples=[
        Example(user="Who are you?", assistant="I be the captain of this rotten ship, curse the rain and the fog.")
    ],
)


def pair_of(number: int, chosen: str = "", rejected: str = "", prompt: str = "", **meta: Any) -> PreferencePair:
    return PreferencePair(
        (Message("user", prompt or TEXTS[4 * number]),),
        (Message("assistant", chosen or TEXTS[4 * number + 1]),),
        (Message("assistant", rejected or TEXTS[4 * number + 2]),),
        meta,
    )


def reasons(report: LintReport) -> list[str]:
    return [one.reason for one in report.dropped]


def finding(report: LintReport, check: str) -> Finding:
    return next(one for one in report.findings if one.check == check)


def test_clean_pairs_all_stay_without_a_warning():
    report = lint_rows([pair_of(n) for n in range(80)])
    assert (len(report.kept), report.dropped, report.warnings) == (80, [], [])


def test_sides_that_differ_in_a_word_of_fifty_go_and_revised_ones_stay():
    words = english(1, num_words=60)[0].split()
    near, revised = " ".join([*words[:30], "other", *words[31:]]), " ".join([*words[:15], *TEXTS[0].split()])
    report = lint_rows([pair_of(1, " ".join(words), near), pair_of(2, " ".join(words), revised)])
    assert reasons(report) == ["too_alike"]
    assert lint_rows([pair_of(1, " ".join(words), near)], LintSettings(max_similarity=1)).dropped == []


def test_a_side_that_recites_its_instruction_goes_unless_the_prompt_says_it_too():
    said = "Well then. You are a pirate, and you end every sentence with a short curse! Aye."
    rows = [
        pair_of(1, chosen=said),
        pair_of(2, rejected="I be the captain of this rotten ship, curse the rain"),
        pair_of(3, chosen=said, prompt=f"What follows from this: {PIRATE.system}"),
        pair_of(4, chosen="You are a pirate, I hear, and end up cursing."),
    ]
    report = lint_rows(rows, instructions={"good": PIRATE})
    assert reasons(report) == ["chosen_leaks_instruction", "rejected_leaks_instruction"]
    assert "good.system" in report.dropped[0].detail and "good.examples[0]" in report.dropped[1].detail


def test_a_chinese_instruction_leaks_by_characters():
    instruction = Instruction(system="你是一位海盗，说话要简短，每句话的结尾都要抱怨天气。")
    rows = [
        pair_of(1, "好的，每句话的结尾都要抱怨天气。", "今天去海边吧。", prompt="今天做什么？"),
        pair_of(2, "说话要简短。", "可以慢慢说。", prompt="怎么说？"),
    ]
    assert reasons(lint_rows(rows, instructions={"good": instruction})) == ["chosen_leaks_instruction"]


def test_the_gates_are_applied():
    refusing = pair_of(2, "I'm sorry, but I cannot help with that request.")
    assert reasons(lint_rows([pair_of(1), refusing])) == ["chosen_refusal"]
    assert lint_rows([refusing], gates=GateSettings(chosen=SideGates(refusal=False))).dropped == []


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ({"judge": {"margin": 0.5}}, 0.5),
        ({"judge": {"votes": {"chosen": 1, "rejected": 3}}}, -2),
        ({"judge": {"scores": {"chosen": 8, "rejected": 8}}}, 0),
        ({"chosen": {"score": 0.9}, "rejected": {"score": 0.4}}, 0.5),
        ({"judge": {"margin": True}}, None),
        ({}, None),
    ],
)
def test_a_margin_that_is_not_above_zero_goes_and_a_missing_one_stays(meta, expected):
    row = replace(pair_of(1), meta=meta)
    assert margin(row) == expected
    assert reasons(lint_rows([row])) == (["low_margin"] if expected is not None and expected <= 0 else [])


def test_a_group_without_spread_goes():
    candidates = [Candidate((Message("assistant", text),), 0.5) for text in ("a", "b")]
    assert reasons(lint_rows([Group((Message("user", "q"),), tuple(candidates))])) == ["low_margin"]


def test_a_length_ratio_goes_only_where_a_limit_is_set():
    row = pair_of(1, rejected=" ".join(TEXTS[8:14]))
    assert lint_rows([row]).dropped == []
    assert reasons(lint_rows([row], LintSettings(max_length_ratio=3.0))) == ["length_ratio"]


def test_equal_and_near_pairs_go_and_another_answer_to_the_same_prompt_stays():
    generator = random.Random(2)
    texts = chinese(3, seed=8)
    first = pair_of(1, texts[1], texts[2], texts[0])
    near = pair_of(1, *(edited(texts[n], 0.05, generator) for n in (1, 2, 0)))
    other = pair_of(1, texts[1], chinese(9, seed=4)[8], texts[0])
    report = lint_rows([pair_of(5), first, other, first, near])
    assert reasons(report) == ["duplicate", "near_duplicate"]
    assert "row 2" in report.dropped[0].detail
    assert finding(report, "repeated prompt").num_rows == 3


def test_a_copy_of_a_row_that_goes_for_another_reason_stays():
    first, second = pair_of(1, judge={"margin": -1}), pair_of(1)
    assert lint_rows([first, second]).kept == [second]


def test_prompts_of_another_file_go_equal_or_near_whatever_their_system_message():
    generator = random.Random(3)
    test_rows = [Prompt((Message("user", text),)) for text in chinese(20, seed=6)]
    leaked = Prompt((Message("system", "be brief"), *test_rows[3].messages))
    near = Prompt((Message("user", edited(test_rows[5].messages[0].content, 0.1, generator)),))
    report = lint_rows([Prompt((Message("user", "你好吗？"),)), leaked, near], against={"test.jsonl": test_rows})
    assert reasons(report) == ["in_other_file", "in_other_file"]
    assert "test.jsonl has the prompt, its row 4" in report.dropped[0].detail


def test_prompts_under_different_system_messages_are_no_duplicates():
    prompts = [Prompt((Message("system", system), Message("user", TEXTS[0]))) for system in ("be brief", "be rude")]
    assert lint_rows(prompts).dropped == []
    assert reasons(lint_rows([*prompts, prompts[0]])) == ["duplicate"]


def test_demonstrations_and_tasks_are_checked_where_a_check_makes_sense():
    shown = [Demonstration((Message("user", "Who?"),), (Message("assistant", "..."),))]
    assert reasons(lint_rows(shown)) == ["completion_empty"]
    tasks = [Task((Message("user", f"What is {n} + 7?"),), {"answer": n + 7}) for n in (1, 2, 1)]
    assert reasons(lint_rows(tasks)) == ["duplicate"]


def test_length_that_tells_the_side_is_a_warning_with_its_interval():
    report = lint_rows([pair_of(n, chosen=TEXTS[4 * n + 1] + " and so on") for n in range(60)])
    assert [one.check for one in report.warnings] == ["chosen is longer"]
    assert "length alone tells the side" in report.warnings[0].note


@pytest.mark.parametrize(("word", "other"), [("Ahoy", "Well"), ("啊哈，", "嗯，")])
def test_an_opening_that_tells_the_side_is_a_warning_and_costs_no_row(word, other):
    rows = [pair_of(n, f"{word} {TEXTS[4 * n + 1]}" if n % 2 else "", "") for n in range(60)]
    report = lint_rows(rows)
    assert report.dropped == [] and finding(report, "opening tells the side").num_rows == 30
    told = telling_openings([(f"{word} {n}", f"{other} {n}") for n in range(60)])
    assert (told.num_told, len(told.found)) == (60, 2)


def test_kept_and_dropped_are_all_rows_in_order():
    rows = [pair_of(n % 40) for n in range(100)]
    report = lint_rows(rows, places=[f"x:{n}" for n in range(100)])
    assert report.kept == rows[:40]
    assert [one.meta["where"] for one in report.dropped] == [f"x:{n}" for n in range(40, 100)]
    assert [PreferencePair.from_dict(one.meta["row"]) for one in report.dropped] == rows[40:]
    for text in (report.text(), report.markdown()):
        assert "duplicate" in text and "60" in text


def lint(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "align.cli", "lint", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
        env={"PYTHONPATH": str(Path(__file__).parents[3]), "PATH": "/usr/bin:/bin"},
    )


def test_a_clean_file_ends_with_0_and_one_with_faults_with_3(tmp_path):
    write_rows(tmp_path / "a.jsonl", [pair_of(n) for n in range(10)])
    write_rows(tmp_path / "b.jsonl", [pair_of(n % 5) for n in range(10)])
    assert lint("a.jsonl", cwd=tmp_path).returncode == 0
    done = lint("b.jsonl", cwd=tmp_path)
    assert (done.returncode, "5 of 10 rows have to go" in done.stderr) == (3, True)
    assert "read as PreferencePair" in done.stdout


def test_write_keeps_every_row_in_one_of_two_files(tmp_path):
    write_rows(tmp_path / "b.jsonl", [pair_of(n % 5) for n in range(10)])
    with (tmp_path / "b.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"prompt": "half a ro\n')
    before = (tmp_path / "b.jsonl").read_bytes()
    assert lint("b.jsonl", "--write", "clean.jsonl", cwd=tmp_path).returncode == 0
    assert (tmp_path / "b.jsonl").read_bytes() == before
    assert len(read_rows(tmp_path / "clean.jsonl", PreferencePair).rows) == 5
    dropped = [json.loads(line) for line in (tmp_path / "clean.dropped.jsonl").read_text().splitlines()]
    assert [one["reason"] for one in dropped] == ["duplicate"] * 5 + ["not_json"]
    assert dropped[-1]["meta"] == {"where": "b.jsonl:11", "text": '{"prompt": "half a ro'}


@pytest.mark.parametrize("target", ["b.jsonl", "./b.jsonl", "link.jsonl", "test.jsonl"])
def test_write_never_overwrites_what_is_read(tmp_path, target):
    write_rows(tmp_path / "b.jsonl", [pair_of(1)])
    write_rows(tmp_path / "test.jsonl", [Prompt((Message("user", "Q?"),))])
    (tmp_path / "link.jsonl").symlink_to("b.jsonl")
    done = lint("b.jsonl", "--against", "test.jsonl", "--write", target, cwd=tmp_path)
    assert (done.returncode, "which is read" in done.stderr) == (2, True)


def test_instructions_and_gates_come_from_the_builder_yaml_beside_the_file(tmp_path):
    refusing = pair_of(2, "I'm sorry, but I cannot help with that request.")
    write_rows(tmp_path / "pairs.jsonl", [pair_of(1, chosen=PIRATE.system or ""), refusing])
    settings = {"good": PIRATE.model_dump(), "gates": {"chosen": {"refusal": False}}}
    (tmp_path / "builder.yaml").write_text(json.dumps(settings))
    done = lint("pairs.jsonl", cwd=tmp_path)
    assert "chosen_leaks_instruction" in done.stdout and "chosen_refusal" not in done.stdout


def test_an_instruction_may_be_a_text_file(tmp_path):
    write_rows(tmp_path / "pairs.jsonl", [pair_of(1, chosen=PIRATE.system or ""), pair_of(2)])
    (tmp_path / "persona.txt").write_text(PIRATE.system or "")
    assert "persona.txt.system" in lint("pairs.jsonl", "--instruction", "persona.txt", cwd=tmp_path).stdout


def test_a_test_file_of_any_columns_serves_as_against(tmp_path):
    write_rows(tmp_path / "pairs.jsonl", [pair_of(1), pair_of(2)])
    (tmp_path / "test.jsonl").write_text(json.dumps({"prompt": TEXTS[4], "answer": "x"}) + "\n")
    (tmp_path / "test.txt").write_text(TEXTS[8] + "\n")
    done = lint("pairs.jsonl", "--against", "test.jsonl", "--against", "test.txt", cwd=tmp_path)
    assert (done.returncode, "no row is left" in done.stderr) == (3, True)


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"prompt": [], "chosen": [], "rejected": []}, PreferencePair),
        ({"prompt": [], "candidates": []}, Group),
        ({"prompt": [], "completion": []}, Demonstration),
        ({"prompt": "q"}, Prompt),
        ({"prompt": [], "answer": 4}, Task),
    ],
)
def test_the_kind_is_told_by_the_columns(tmp_path, row, kind):
    path = tmp_path / "x.jsonl"
    path.write_text("not json\n" + json.dumps(row) + "\n")
    assert kind_of(path) is kind


def test_a_wrong_setting_or_file_is_named(tmp_path):
    write_rows(tmp_path / "b.jsonl", [pair_of(1)])
    done = lint("b.jsonl", "max_similarty=1", cwd=tmp_path)
    assert "max_similarty is not a setting; did you mean max_similarity?" in done.stderr
    assert "did you mean b.jsonl?" in lint("c.jsonl", cwd=tmp_path).stderr

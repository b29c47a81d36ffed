"""Pairs and judges that the judge tests share."""

from __future__ import annotations

import hashlib

from align.data.rows.message import Message, Messages
from align.data.rows.pair import PreferencePair
from align.judges.base import Verdict, Winner
from align.judges.scripted import ScriptedJudge


def said(text: str) -> Messages:
    return (Message("assistant", text),)


def asked(text: str) -> Messages:
    return (Message("user", text),)


def pairs(num: int, **meta) -> list[PreferencePair]:
    """The chosen side holds `right`; every second chosen side is the longer one."""
    return [
        PreferencePair(
            asked(f"Question {index}?"),
            said(f"right {index}" + " and more" * (index % 2)),
            said(f"wrong {index}" + " and more" * (1 - index % 2)),
            meta,
        )
        for index in range(num)
    ]


def always_first() -> ScriptedJudge:
    return ScriptedJudge("always first", lambda prompt, first, second: "first")


def prefers_longer() -> ScriptedJudge:
    def longer(prompt: Messages, first: Messages, second: Messages) -> Winner:
        return "first" if len(first[0].content) > len(second[0].content) else "second"

    return ScriptedJudge("prefers longer", longer)


def wrong_in_a_fifth() -> ScriptedJudge:
    """Wrong about 20 % of the pairs, the same ones in either order."""

    def verdict(prompt: Messages, first: Messages, second: Messages) -> Verdict:
        is_wrong = hashlib.sha256(prompt[0].content.encode()).digest()[0] < 0.2 * 256
        is_first = ("right" in first[0].content) != is_wrong
        return Verdict("first" if is_first else "second", "because")

    return ScriptedJudge("wrong in a fifth", verdict)


def honest() -> ScriptedJudge:
    return ScriptedJudge("honest", lambda prompt, first, second: "first" if "right" in first[0].content else "second")

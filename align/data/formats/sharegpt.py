"""ShareGPT: the turns before the answer in `conversations`, each with `from` and `value`, and the answers beside them.

Columns and tags: llamafactory 0.9.5, `data/parser.py` (`DatasetAttr`) and `data/converter.py`
(`SharegptDatasetConverter`: human and observation in odd places, gpt in even ones; chosen and rejected are one message
each; ranked conversations end with the question). In words: LLaMA-Factory, `data/README.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

from align.data.formats.base import (
    Example,
    Format,
    meta_of,
    no_such_row,
    one_answer,
    present,
    system_apart,
    with_system,
)
from align.data.rows.labelled import LabelledCompletion
from align.data.rows.message import Message, Messages, RowError, listed, read_each
from align.data.rows.pair import Demonstration, PreferencePair
from align.text.shorten import quote

ROLES = {
    **{"human": "user", "gpt": "assistant", "observation": "tool", "system": "system"},
    **{"user": "user", "assistant": "assistant", "tool": "tool", "bot": "assistant"},
}
"""`from` → role, where no entry of `dataset_info.json` says otherwise."""


@dataclass(frozen=True)
class ShareGptColumns:
    """Which column and which key holds what, under the names of `dataset_info.json`; None: no column does."""

    messages: str | None = "conversations"
    system: str | None = "system"
    chosen: str | None = "chosen"
    rejected: str | None = "rejected"
    kto_tag: str | None = "kto_tag"
    role_tag: str = "from"
    content_tag: str = "value"
    roles: Mapping[str, str] = field(default_factory=lambda: ROLES)
    """Value of the role tag → role."""


@dataclass(frozen=True)
class ShareGptFormat(Format):
    """A conversation with tags of its own for who speaks."""

    names: ShareGptColumns = field(default_factory=ShareGptColumns)

    name = "sharegpt"
    about = "conversations (from, value), and chosen and rejected where answers are ranked (further: system, kto_tag)"
    columns: ClassVar[Mapping[str, str]] = {
        "conversations": "turns",
        "system": "text",
        "chosen": "turn",
        "rejected": "turn",
    }

    def fits(self, values: Mapping[str, Any]) -> bool:
        """A column conversations."""
        return present(values, "conversations")

    def read(self, values: Mapping[str, Any]) -> Example:
        """The row, a completion with a label where it has the column kto_tag."""
        names = self.names
        if not present(values, names.messages):
            raise no_such_row(values, self.name, self.about)
        turns = tuple(read_each(self._message, values[str(names.messages)], str(names.messages)))
        turns = with_system(values.get(names.system) if names.system else None, turns)
        used = {names.messages, names.system}
        if present(values, names.chosen, names.rejected):
            chosen, rejected = (self._answer(values, str(name)) for name in (names.chosen, names.rejected))
            return PreferencePair(turns, chosen, rejected, meta_of(values, {*used, names.chosen, names.rejected}))
        if len(turns) < 2:
            raise RowError(f"{names.messages} must hold a question and its answer, but is too short", "too_short")
        if present(values, names.kto_tag):
            meta = meta_of(values, {*used, names.kto_tag})
            return LabelledCompletion(turns[:-1], turns[-1:], values[str(names.kto_tag)], meta)
        return Demonstration(turns[:-1], turns[-1:], meta_of(values, used))

    def write(self, row: PreferencePair | Demonstration) -> dict[str, Any]:
        """Turns, the system text in its column (in every row, since LLaMA-Factory looks it up), and the answers."""
        system, turns = system_apart(row.prompt)
        twice = any(a.role == b.role == "tool" for a, b in pairwise(turns))
        if twice:
            text = "prompt must not have two tool turns in a row, since LLaMA-Factory leaves such rows out"
            raise RowError(f"{text}; join them", "several_tools_in_a_row")
        if isinstance(row, PreferencePair):
            sides = {name: one_answer(getattr(row, name), name, _ADVICE) for name in ("chosen", "rejected")}
            answers = {name: {"from": "gpt", "value": text} for name, text in sides.items()}
            return {"conversations": [_turn(one) for one in turns], "system": system, **answers}
        answer = Message("assistant", one_answer(row.completion, "completion", _ADVICE))
        return {"conversations": [_turn(one) for one in (*turns, answer)], "system": system}

    def _answer(self, values: Mapping[str, Any], name: str) -> Messages:
        try:
            return (self._message(values[name]),)
        except RowError as error:
            raise RowError(f"{name}: {error}", error.reason) from None

    def _message(self, value: Any) -> Message:
        names = self.names
        if not isinstance(value, Mapping) or names.role_tag not in value or names.content_tag not in value:
            text = f"must be {{{names.role_tag}, {names.content_tag}}}, but is {quote(value)}"
            raise RowError(text, "wrong_type")
        who = value[names.role_tag]
        if who not in names.roles:
            advice = "; rows have no place for calls of tools: write the call as the assistant's text" * (
                "func" in str(who)
            )
            raise RowError(f"must be said by {listed(names.roles)}, but is by {quote(who)}{advice}", "wrong_role")
        extra = [key for key in value if key not in (names.role_tag, names.content_tag) and value[key] is not None]
        if extra:
            raise RowError(f"must have no {listed(extra)}; write it into the text or remove it", "unknown_column")
        return Message(names.roles[who], value[names.content_tag])


def _turn(message: Message) -> dict[str, str]:
    return {"from": _TAGS[message.role], "value": message.content}


_TAGS = {"user": "human", "assistant": "gpt", "tool": "observation"}
_ADVICE = "choose swift-messages or align"

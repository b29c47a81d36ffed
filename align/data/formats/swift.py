"""ms-swift: the whole conversation in `messages`, and the other answer beside it.

Columns: ms-swift 4.6.0, `dataset/preprocessor/core.py` (`RowPreprocessor.standard_keys`: messages, rejected_response,
rejected_messages, label) and `template/template_inputs.py` (`_compat_rejected_response`: it stands for all that follows
the last user turn). In words: https://swift.readthedocs.io/en/latest/Customization/Custom-dataset.html, which also
says that columns it does not know (`meta`) are left out of training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from align.data.formats.base import (
    Example,
    Format,
    meta_of,
    no_shared_start,
    no_such_row,
    one_answer,
    present,
    split_shared,
    text_or_messages,
)
from align.data.rows.labelled import LabelledCompletion
from align.data.rows.message import Messages, RowError, as_dicts, read_messages
from align.data.rows.pair import Demonstration, PreferencePair
from align.text.shorten import quote


class SwiftFormat(Format):
    """`messages` with `rejected_response`, a text that stands for all that follows the last user turn."""

    name = "swift"
    about = "messages, and rejected_response where answers are ranked (further: label)"
    columns: ClassVar[Mapping[str, str]] = {"messages": "messages", "rejected_response": "text"}

    def fits(self, values: Mapping[str, Any]) -> bool:
        """Messages, and no whole conversation beside them."""
        return present(values, "messages") and not any(
            present(values, name) for name in ("rejected_messages", "chosen")
        )

    def read(self, values: Mapping[str, Any]) -> Example:
        """The row; the answer is what follows the last user turn."""
        prompt, answer = _split(_messages(values, "messages", self))
        if present(values, "rejected_response"):
            rejected = text_or_messages(_plain_tools(values["rejected_response"]), "rejected_response")
            return PreferencePair(prompt, answer, rejected, meta_of(values, self.columns))
        if present(values, "label"):
            if not isinstance(values["label"], bool):
                text = f"label must be true or false, but is {quote(values['label'])}, of a task that is no preference"
                raise RowError(text, "wrong_type")
            return LabelledCompletion(prompt, answer, values["label"], meta_of(values, ("messages", "label")))
        return Demonstration(prompt, answer, meta_of(values, ("messages",)))

    def write(self, row: PreferencePair | Demonstration) -> dict[str, Any]:
        """The conversation with the good answer, and the text of the other."""
        if row.prompt[-1].role != "user":
            text = "prompt must end with user, since ms-swift replaces all that follows the last user turn"
            raise RowError(f"{text}; choose swift-messages", "tool_turn")
        if isinstance(row, Demonstration):
            return {"messages": as_dicts((*row.prompt, *row.completion))}
        rejected = one_answer(row.rejected, "rejected", "choose swift-messages")
        return {"messages": as_dicts((*row.prompt, *row.chosen)), "rejected_response": rejected}


class SwiftMessagesFormat(Format):
    """`messages` with `rejected_messages`: both conversations whole."""

    name = "swift-messages"
    about = "messages and rejected_messages, each a whole conversation"
    columns: ClassVar[Mapping[str, str]] = {"messages": "messages", "rejected_messages": "messages"}
    kinds = (PreferencePair,)

    def fits(self, values: Mapping[str, Any]) -> bool:
        """Two conversations."""
        return present(values, "messages", "rejected_messages")

    def read(self, values: Mapping[str, Any]) -> Example:
        """The pair; what both conversations begin with is the prompt."""
        sides = (_messages(values, "messages", self), _messages(values, "rejected_messages", self))
        prompt, chosen, rejected = split_shared(*sides)
        return PreferencePair(prompt, chosen, rejected, meta_of(values, self.columns))

    def write(self, row: PreferencePair) -> dict[str, Any]:
        """Both conversations."""
        no_shared_start(row)
        chosen, rejected = (as_dicts((*row.prompt, *side)) for side in (row.chosen, row.rejected))
        return {"messages": chosen, "rejected_messages": rejected}


def _messages(values: Mapping[str, Any], name: str, own: Format) -> Messages:
    if not present(values, name):
        raise no_such_row(values, own.name, own.about)
    return read_messages(_plain_tools(values[name]), name)


def _plain_tools(value: Any) -> Any:
    """`tool_response` is ms-swift's other name for `tool`."""
    if not isinstance(value, list):
        return value
    return [
        {**one, "role": "tool"} if isinstance(one, Mapping) and one.get("role") == "tool_response" else one
        for one in value
    ]


def _split(messages: Messages) -> tuple[Messages, Messages]:
    """What leads up to the last user turn, that turn included, and what follows it."""
    end = max((index for index, one in enumerate(messages) if one.role == "user"), default=-1) + 1
    return messages[:end], messages[end:]

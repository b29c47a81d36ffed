"""Format: how another library lays a row out; the base of each, and what they share.

Every format carries `meta`: as JSON text in a column of that name, which other libraries leave alone (an object whose
names differ from row to row would not load as a table). Columns that a format does not know become part of `meta`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from align.data.rows.json_object import json_object
from align.data.rows.labelled import LabelledCompletion
from align.data.rows.message import Message, Messages, RowError, listed, read_messages
from align.data.rows.pair import Demonstration, PreferencePair
from align.text.shorten import quote

Example = PreferencePair | Demonstration | LabelledCompletion
"""What a row of any format holds."""


class Format(ABC):
    """One layout of rows. `read` and `write` are each other's inverse on all that `write` accepts."""

    name: ClassVar[str]
    about: ClassVar[str]
    """The columns in words, for errors and help."""
    columns: ClassVar[Mapping[str, str]]
    """Column that is written → its type in parquet (`align/data/files/parquet.py` names them)."""
    kinds: ClassVar[tuple[type[Example], ...]] = (PreferencePair, Demonstration)
    """What can be written."""

    @abstractmethod
    def fits(self, values: Mapping[str, Any]) -> bool:
        """Whether a row's columns look like this format's; null columns count as absent."""

    @abstractmethod
    def read(self, values: Mapping[str, Any]) -> Example:
        """Make the row.

        Raises:
            RowError: when the values are no such row.
        """

    @abstractmethod
    def write(self, row: Any) -> dict[str, Any]:
        """The columns but `meta`.

        Raises:
            RowError: when the format has no place for a part of the row.
        """


def present(values: Mapping[str, Any], *names: str | None) -> bool:
    """Whether the row has all of these columns, none of them null."""
    return all(name is not None and values.get(name) is not None for name in names)


def meta_of(values: Mapping[str, Any], known: Collection[str | None]) -> dict[str, Any]:
    """The row's meta: that of its column `meta`, and every column that the format does not know.

    Raises:
        RowError: for tools and pictures, which rows have no place for, and where a name stands in both.
    """
    found = values.get("meta")
    text = json_object(found) if isinstance(found, str) else found
    meta = dict(text) if isinstance(text, Mapping) else {} if found is None else {"meta": found}
    for name, value in values.items():
        if name in known or name == "meta" or value is None:
            continue
        if name in _NOT_TEXT and value:
            raise RowError(f"rows hold text only, but {name} is {quote(value)}; remove the column or the row", name)
        if name in meta and meta[name] != value:
            raise RowError(f"meta has {name}, and so has the row; rename the column {name}", "twice_in_meta")
        meta[name] = _json_value(value, name)
    return meta


def one_answer(answer: Messages, where: str, advice: str) -> str:
    """The text of an answer that is one message."""
    if len(answer) != 1:
        text = f"{where} must be one message, but is {len(answer)} (with what tools said); {advice}"
        raise RowError(text, "side_of_several_messages")
    return answer[0].content


def no_tools(prompt: Messages, advice: str) -> None:
    """Raise where a tool speaks."""
    if any(message.role == "tool" for message in prompt):
        raise RowError(f"prompt must hold no tool turn, but does; {advice}", "tool_turn")


def system_apart(prompt: Messages) -> tuple[str, Messages]:
    """The system text (empty: none) and the other messages, for formats with a column for it."""
    if prompt[0].role != "system":
        return "", prompt
    if not prompt[0].content:
        raise RowError("an empty system message counts as none in this format; remove it", "empty_system")
    return prompt[0].content, prompt[1:]


def with_system(system: object, messages: Messages) -> Messages:
    """The messages with the system text of a column first; empty or null is none."""
    if system is None or system == "":
        return messages
    first = Message("system", system)  # type: ignore[arg-type]  # the message checks it
    if messages and messages[0].role == "system":
        if messages[0] == first:
            return messages
        raise RowError(
            "the column system and the first message must not both be a system text; join them", "two_systems"
        )
    return (first, *messages)


def text_or_messages(value: object, where: str) -> Messages:
    """Messages, or the text of one: the user's where it is the prompt, else the assistant's."""
    if isinstance(value, str):
        return (Message("user" if where == "prompt" else "assistant", value),)
    return read_messages(value, where)


def split_shared(first: Messages, second: Messages) -> tuple[Messages, Messages, Messages]:
    """The turns that two conversations begin with alike, and what each goes on with."""
    same = (index for index, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    num = next(same, min(len(first), len(second)))
    return first[:num], first[num:], second[num:]


def no_shared_start(pair: PreferencePair) -> None:
    """Raise where whole conversations would not tell where the prompt ends."""
    if pair.chosen[0] == pair.rejected[0]:
        text = "chosen and rejected must differ in their first message, since what they share counts as prompt here"
        raise RowError(f"{text}; move the shared messages to prompt", "shared_start")


def _json_value(value: Any, name: str) -> Any:
    """The value, which parquet may have as a date or as bytes."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise RowError(f"{name} must hold what JSON can, but: {error}; write it as text", "wrong_type") from None
    return value


def no_such_row(values: Mapping[str, Any], format_name: str, about: str) -> RowError:
    """The error of a row whose columns are not the format's."""
    return RowError(f"a row of {format_name} must have {about}; there is {listed(values)}", "missing_column")


_NOT_TEXT = ("tools", "images", "videos", "audios", "objects")
"""Columns of LLaMA-Factory and ms-swift that change what a model reads."""

"""Alpaca: instruction, input and output in columns, with chosen and rejected where the answers are ranked.

Columns: llamafactory 0.9.5, `data/parser.py` (`DatasetAttr`) and `data/converter.py` (`AlpacaDatasetConverter`:
instruction and input are joined by a line end; an empty system is none); ms-swift 4.6.0,
`dataset/preprocessor/core.py` (`AlpacaPreprocessor`). In words: LLaMA-Factory, `data/README.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from align.data.formats.base import (
    Example,
    Format,
    meta_of,
    no_such_row,
    no_tools,
    one_answer,
    present,
    system_apart,
    with_system,
)
from align.data.rows.labelled import LabelledCompletion
from align.data.rows.message import Message, Messages, RowError
from align.data.rows.pair import Demonstration, PreferencePair
from align.text.shorten import quote


@dataclass(frozen=True)
class AlpacaColumns:
    """Which column holds what, under the names of `dataset_info.json`; None: no column does."""

    prompt: str | None = "instruction"
    query: str | None = "input"
    response: str | None = "output"
    history: str | None = "history"
    system: str | None = "system"
    chosen: str | None = "chosen"
    rejected: str | None = "rejected"
    kto_tag: str | None = "kto_tag"


@dataclass(frozen=True)
class AlpacaFormat(Format):
    """One question, what was said before it, and the answers, in columns of text."""

    names: AlpacaColumns = AlpacaColumns()

    name = "alpaca"
    about = "instruction, and chosen and rejected or output (further: input, system, history, kto_tag)"
    columns: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("instruction", "input", "system"), "text"),
        "history": "history",
        **dict.fromkeys(("chosen", "rejected", "output"), "text"),
    }

    def fits(self, values: Mapping[str, Any]) -> bool:
        """An instruction."""
        return present(values, "instruction")

    def read(self, values: Mapping[str, Any]) -> Example:
        """The row, a completion with a label where it has the column kto_tag."""
        names = self.names
        question = [values[name] for name in (names.prompt, names.query) if name is not None and values.get(name)]
        if not question:
            raise no_such_row(values, self.name, self.about)
        if not all(isinstance(text, str) for text in question):
            raise RowError(f"instruction and input must be text, but are {quote(question)}", "wrong_type")
        turns = (*_history(_column(values, names.history)), Message("user", "\n".join(question)))
        prompt = with_system(_column(values, names.system), turns)
        if present(values, names.chosen, names.rejected):
            used = self._used(names.chosen, names.rejected)
            return PreferencePair(
                prompt, _answer(values, names.chosen), _answer(values, names.rejected), meta_of(values, used)
            )
        if not present(values, names.response):
            raise no_such_row(values, self.name, self.about)
        answer = _answer(values, names.response)
        if present(values, names.kto_tag):
            meta = meta_of(values, self._used(names.response, names.kto_tag))
            return LabelledCompletion(prompt, answer, values[str(names.kto_tag)], meta)
        return Demonstration(prompt, answer, meta_of(values, self._used(names.response)))

    def write(self, row: PreferencePair | Demonstration) -> dict[str, Any]:
        """The columns; those of the question stand in every row, as LLaMA-Factory looks each of them up."""
        no_tools(row.prompt, "choose sharegpt")
        system, turns = system_apart(row.prompt)
        contents = [message.content for message in turns]
        history = [list(turn) for turn in zip(contents[:-1:2], contents[1::2], strict=True)]
        names = ("chosen", "rejected") if isinstance(row, PreferencePair) else ("completion",)
        answers = [one_answer(getattr(row, name), name, "choose swift-messages or align") for name in names]
        columns = ("chosen", "rejected") if isinstance(row, PreferencePair) else ("output",)
        return {
            **{"instruction": contents[-1], "input": "", "system": system, "history": history},
            **dict(zip(columns, answers, strict=True)),
        }

    def _used(self, *answers: str | None) -> set[str | None]:
        """Columns that are no part of meta."""
        unused = {self.names.chosen, self.names.rejected, self.names.response, self.names.kto_tag} - {*answers}
        return {*vars(self.names).values()} - unused


def _column(values: Mapping[str, Any], name: str | None) -> Any:
    return None if name is None else values.get(name)


def _answer(values: Mapping[str, Any], name: str | None) -> Messages:
    return (Message("assistant", _column(values, name)),)


def _history(value: object) -> Messages:
    """The turns before the question, from [[question, answer], …]."""
    turns = [] if value is None else value
    if not isinstance(turns, list) or not all(isinstance(turn, list | tuple) and len(turn) == 2 for turn in turns):
        raise RowError(f"history must be a list of [question, answer], but is {quote(value)}", "wrong_type")
    roles = ("user", "assistant")
    return tuple(Message(role, text) for turn in turns for role, text in zip(roles, turn, strict=True))

"""TRL's formats: our own, whole conversations, plain text, and unpaired (KTO).

Columns: https://huggingface.co/docs/trl/dataset_formats and `trl/data_utils.py` of trl 1.16 (`extract_prompt`: the
turns that both conversations share are the prompt; `_unpair_row`: a pair is two labelled rows).
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
from align.data.rows.message import RowError, as_dicts, read_messages
from align.data.rows.pair import Demonstration, PreferencePair

_ANSWERS = ("prompt", "chosen", "rejected")
_COLUMNS = (*_ANSWERS, "completion")


class AlignFormat(Format):
    """Our own: TRL's conversational format, with the prompt apart."""

    name = "align"
    about = "prompt, chosen and rejected (or prompt and completion), each a list of messages"
    columns: ClassVar[Mapping[str, str]] = {
        "prompt": "messages",
        "chosen": "messages",
        "rejected": "messages",
        "completion": "messages",
    }

    def fits(self, values: Mapping[str, Any]) -> bool:
        """Lists of messages, and a prompt."""
        return _are(list, values, "prompt") and _has_answers(list, values)

    def read(self, values: Mapping[str, Any]) -> Example:
        """The row, further columns in its meta."""
        known = _ANSWERS if present(values, "chosen") else ("prompt", "completion")
        if not all(name in values for name in known):
            raise no_such_row(values, self.name, self.about)
        parts = {name: read_messages(values[name], name) for name in known}
        kind = PreferencePair if present(values, "chosen") else Demonstration
        return kind(**parts, meta=meta_of(values, known))

    def write(self, row: Any) -> dict[str, Any]:
        """The columns of the row."""
        return {name: value for name, value in row.to_dict().items() if name != "meta"}


class ImplicitFormat(Format):
    """Both sides as whole conversations; what they begin with alike is the prompt."""

    name = "trl-implicit"
    about = "chosen and rejected, each a whole conversation"
    columns: ClassVar[Mapping[str, str]] = {"chosen": "messages", "rejected": "messages"}
    kinds = (PreferencePair,)

    def fits(self, values: Mapping[str, Any]) -> bool:
        """Two lists of messages, and no prompt but a text that repeats the question."""
        return _are(list, values, "chosen", "rejected") and not isinstance(values.get("prompt"), list)

    def read(self, values: Mapping[str, Any]) -> Example:
        """The pair. A prompt as text must say what a message of the shared turns says."""
        if not present(values, "chosen", "rejected"):
            raise no_such_row(values, self.name, self.about)
        if isinstance(values["chosen"], str):
            text = "chosen must be a list of messages, but is a text, which does not tell where the answer begins"
            raise RowError(f"{text}; split it into prompt, chosen and rejected", "implicit_text")
        sides = [read_messages(values[name], name) for name in ("chosen", "rejected")]
        prompt, chosen, rejected = split_shared(*sides)
        if not prompt or not chosen or not rejected:
            text = "chosen and rejected must begin with the same turns and end with two answers, but do not"
            raise RowError(f"{text}; correct the row", "no_shared_prompt")
        asked = values.get("prompt")
        if asked is not None and asked not in [message.content for message in prompt]:
            raise RowError("prompt must be said in the turns that both sides share, but is not", "prompt_differs")
        return PreferencePair(prompt, chosen, rejected, meta_of(values, _ANSWERS))

    def write(self, row: PreferencePair) -> dict[str, Any]:
        """Both conversations."""
        no_shared_start(row)
        return {name: as_dicts((*row.prompt, *getattr(row, name))) for name in ("chosen", "rejected")}


class TextFormat(Format):
    """Plain strings: one user message and one answer. TRL puts no chat template around them."""

    name = "trl-text"
    about = "prompt, chosen and rejected (or prompt and completion), each a text"
    columns: ClassVar[Mapping[str, str]] = {
        "prompt": "text",
        "chosen": "text",
        "rejected": "text",
        "completion": "text",
    }

    def fits(self, values: Mapping[str, Any]) -> bool:
        """Texts, and a prompt."""
        return _are(str, values, "prompt") and _has_answers(str, values)

    def read(self, values: Mapping[str, Any]) -> Example:
        """The row: the prompt is one user message, an answer one assistant message."""
        known = _ANSWERS if present(values, "chosen") else ("prompt", "completion")
        if not _are(str, values, *known):
            raise no_such_row(values, self.name, self.about)
        parts = {name: text_or_messages(values[name], name) for name in known}
        kind = PreferencePair if present(values, "chosen") else Demonstration
        return kind(**parts, meta=meta_of(values, known))

    def write(self, row: PreferencePair | Demonstration) -> dict[str, Any]:
        """The texts of a row with one question."""
        if len(row.prompt) > 1:
            roles = ", ".join(message.role for message in row.prompt)
            raise RowError(f"prompt must be one user message, but is {roles}; choose align", "several_turns")
        names = ("chosen", "rejected") if isinstance(row, PreferencePair) else ("completion",)
        answers = {name: one_answer(getattr(row, name), name, "choose align") for name in names}
        return {"prompt": row.prompt[0].content, **answers}


class KtoFormat(Format):
    """Unpaired: a completion and whether it is wanted."""

    name = "kto"
    about = "prompt, completion and label (true or false)"
    columns: ClassVar[Mapping[str, str]] = {"prompt": "messages", "completion": "messages", "label": "bool"}
    kinds = (LabelledCompletion,)

    def fits(self, values: Mapping[str, Any]) -> bool:
        """A completion with a label."""
        return present(values, "prompt", "completion", "label")

    def read(self, values: Mapping[str, Any]) -> Example:
        """The labelled completion, from messages or from texts."""
        if not self.fits(values):
            raise no_such_row(values, self.name, self.about)
        prompt, completion = (text_or_messages(values[name], name) for name in ("prompt", "completion"))
        return LabelledCompletion(prompt, completion, values["label"], meta_of(values, self.columns))

    def write(self, row: LabelledCompletion) -> dict[str, Any]:
        """Messages and the label."""
        return {"prompt": as_dicts(row.prompt), "completion": as_dicts(row.completion), "label": row.label}


def _are(kind: type, values: Mapping[str, Any], *names: str) -> bool:
    return all(isinstance(values.get(name), kind) for name in names)


def _has_answers(kind: type, values: Mapping[str, Any]) -> bool:
    is_one = _are(kind, values, "completion") and not present(values, "label")
    return _are(kind, values, "chosen", "rejected") or is_one

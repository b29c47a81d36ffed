"""Instruction: a system text and worked examples that are put before a prompt to change how a model answers it."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel

from align.data.rows.pair import Message, Messages


def _spoken(text: str) -> str:
    """The text, if a message can hold it and there is something in it."""
    Message("user", text)
    if not text.strip():
        raise ValueError("must not be blank; write a text or leave the name out")
    return text


Text = Annotated[str, AfterValidator(_spoken)]


class Example(BaseModel, extra="forbid"):
    """One exchange that shows what an answer should look like."""

    user: Text
    assistant: Text


class Instruction(BaseModel, extra="forbid"):
    """What a model is told besides the prompt. Without system text and examples it changes nothing."""

    system: Text | None = None
    examples: list[Example] = []
    """Shown as turns of the same conversation, in this order."""

    @property
    def is_empty(self) -> bool:
        """True when the instruction changes nothing."""
        return self.system is None and not self.examples

    def apply(self, messages: Messages) -> Messages:
        """The messages with the system text first, then the examples as turns, then the turns they had.

        A system message of their own is joined to the instruction's text by a blank line, the instruction first.
        """
        own = [message.content for message in messages[:1] if message.role == "system"]
        turns = messages[len(own) :]
        texts = [text for text in (self.system, *own) if text is not None]
        system = (Message("system", "\n\n".join(texts)),) if texts else ()
        shown = [(Message("user", one.user), Message("assistant", one.assistant)) for one in self.examples]
        return (*system, *(message for exchange in shown for message in exchange), *turns)

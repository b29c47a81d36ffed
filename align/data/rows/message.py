"""Messages: the turns of a conversation, each valid on construction, and the error of a row that is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from align.text.shorten import quote

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on

ROLES = ("system", "user", "assistant", "tool")

T = TypeVar("T")


class RowError(ValueError):
    """One row breaks a rule. The reader adds file and line."""

    def __init__(self, text: str, reason: str = "invalid") -> None:
        super().__init__(text)
        self.reason = reason
        """Short slug that bad rows are counted by, such as `missing_column`."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    """`system`, `user`, `assistant` or `tool`."""
    content: str
    """Any text that UTF-8 can hold, without NUL."""

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            known = _ROLES_ELSEWHERE.get(self.role) if isinstance(self.role, str) else None
            advice = f"; write {known}" if known else ""
            raise RowError(f"role must be one of {listed(ROLES)}, but is {quote(self.role)}{advice}", "wrong_role")
        check_text(self.content, "content")

    def to_dict(self) -> dict[str, str]:
        """The form that chat templates take."""
        return {"role": self.role, "content": self.content}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make the message from its JSON form. A further key is allowed only as null (column formats fill it in).

        Raises:
            RowError: when the values are not a message.
        """
        if not isinstance(values, (dict, Mapping)):  # dict first: asking an abstract class is slow
            raise RowError(f'must be {{"role": …, "content": …}}, but is {quote(values)}', "wrong_type")
        if "role" not in values or "content" not in values:
            advice = "; rename from and value to role and content" if "from" in values and "value" in values else ""
            raise RowError(f"must have role and content, but has {listed(values)}{advice}", "missing_column")
        if len(values) > 2 and (extra := [key for key in values if key not in _PARTS and values[key] is not None]):
            text = f"must have only role and content, but also has {listed(extra)}; write it into content or remove it"
            raise RowError(text, "unknown_column")
        return cls(values["role"], values["content"])


Messages = tuple[Message, ...]


def as_dicts(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Messages in the form that chat templates, TRL and HTTP endpoints take."""
    return [message.to_dict() for message in messages]


def as_text(messages: Messages) -> str:
    """Turns as one text, each under its role."""
    return "\n\n".join(f"[{message.role}]\n{message.content}" for message in messages)


def contents(messages: Messages) -> str:
    """What is said in all turns, on one line each."""
    return "\n".join(message.content for message in messages)


def read_messages(value: object, where: str) -> Messages:
    """Make the messages of the column `where` from their JSON form."""
    if isinstance(value, str):
        role = "user" if where == "prompt" else "assistant"
        text = f"{where} must be a list of messages, but is the text {quote(value)}"
        raise RowError(f'{text}; write [{{"role": "{role}", "content": "…"}}]', "plain_text")
    return tuple(read_each(Message.from_dict, value, where))


def read_each(read: Callable[[Any], T], value: object, where: str) -> Iterator[T]:
    """What `read` makes of each element; an error names the element by its index, from 0."""
    if not isinstance(value, (list, tuple)):
        raise RowError(f"{where} must be a list, but is {quote(value)}", "wrong_type")
    for index, one in enumerate(value):
        try:
            yield read(one)
        except RowError as error:
            raise RowError(f"{where}[{index}]: {error}", error.reason) from None


def check_text(value: object, where: str) -> None:
    """Raise unless the value is text that any file and tokenizer can hold."""
    if not isinstance(value, str):
        raise RowError(f"{where} must be a string, but is {quote(value)}", "wrong_type")
    if "\0" in value:
        raise RowError(f"{where} must not hold NUL, but does at character {value.index(chr(0)) + 1}; remove it", "nul")
    try:
        value.isascii() or value.encode()
    except UnicodeEncodeError as error:
        half = f"half a character ({quote(value[error.start])}) at character {error.start + 1}"
        raise RowError(f"{where} must be whole Unicode text, but has {half}; remove it", "lone_surrogate") from None


def listed(names: Iterable[object]) -> str:
    """Names of columns in an error, in quotes where one is odd."""
    return ", ".join(str(name) if str(name).isidentifier() else quote(name) for name in names) or "nothing"


_PARTS = ("role", "content")

_ROLES_ELSEWHERE = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "function": "tool"}

"""Verdict text: from what a teacher wrote to a verdict, or to an error that quotes what came. Nothing is repaired."""

from __future__ import annotations

from typing import Any

from align.judges.base import JudgeError, Verdict, Winner
from align.teachers.base import Completion
from align.text.model_json import last_object
from align.text.shorten import both_ends

VERDICT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"reason": {"type": "string"}, "winner": {"type": "string", "enum": ["A", "B", "tie"]}},
    "required": ["reason", "winner"],
    "additionalProperties": False,
}
"""Of a verdict, for teachers that can be held to a schema. The reason comes first: it is then thought of first."""

_WINNERS: dict[str, Winner] = {"A": "first", "B": "second", "tie": "tie"}
_LONGEST_QUOTE = 300
"""Characters; of a longer answer its start and its end are quoted."""


def read_verdict(completion: Completion) -> Verdict:
    """The verdict in the last JSON object of a whole answer.

    Raises:
        JudgeError: the answer was cut off, has no such object, or one that is not exactly a verdict.
    """
    if completion.finish_reason != "stop":
        raise JudgeError(
            f"the answer must end by itself (stop), but its finish reason is {completion.finish_reason}; if that is "
            f"length, raise the judge's sampling.max_tokens. It wrote: {_quoted(completion.text)}"
        )
    values = last_object(completion.text)
    if values is None:
        raise JudgeError(f"the answer must end in a JSON object, but is {_quoted(completion.text)}")
    winner, reason = values.get("winner"), values.get("reason")
    is_verdict = isinstance(winner, str) and winner in _WINNERS and isinstance(reason, str)
    if not is_verdict or len(values) != 2:
        form = '{"reason": text, "winner": "A", "B" or "tie"}'
        raise JudgeError(f"the verdict must be {form}, but the answer is {_quoted(completion.text)}")
    return Verdict(_WINNERS[str(winner)], _storable(str(reason)), completion.key)


def _storable(text: str) -> str:
    """JSON can hold half a surrogate pair and NUL, which a row cannot."""
    return text.encode(errors="replace").decode().replace("\0", "?")


def _quoted(text: str) -> str:
    return repr(both_ends(text.strip(), _LONGEST_QUOTE))

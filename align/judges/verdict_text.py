"""Reading: from what a teacher wrote to a verdict, or to an error that quotes what came. Nothing is repaired."""

from __future__ import annotations

import json
from typing import Any

from align.judges.base import JudgeError, Verdict, Winner
from align.teachers.base import Completion

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
    values = _last_object(completion.text)
    if values is None:
        raise JudgeError(f"the answer must end in a JSON object, but is {_quoted(completion.text)}")
    winner, reason = values.get("winner"), values.get("reason")
    is_verdict = isinstance(winner, str) and winner in _WINNERS and isinstance(reason, str)
    if not is_verdict or len(values) != 2:
        form = '{"reason": text, "winner": "A", "B" or "tie"}'
        raise JudgeError(f"the verdict must be {form}, but the answer is {_quoted(completion.text)}")
    return Verdict(_WINNERS[str(winner)], _storable(str(reason)), completion.key)


def _last_object(text: str) -> dict[str, Any] | None:
    """The outermost object that the text's last brace closes; None where there is none."""
    end = text.rfind("}") + 1
    if not end or "{" in text[end:]:
        return None
    decoder = json.JSONDecoder(object_pairs_hook=_without_repeats, parse_constant=_refuse)
    start = text.find("{", 0, end)
    while start != -1:
        try:
            values, stop = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            stop = -1
        if stop == end:
            return values if isinstance(values, dict) else None
        start = text.find("{", max(start + 1, stop), end)
    return None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON readers keep the last of two equal names, which would hide a contradiction."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name stands twice")
    return values


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _storable(text: str) -> str:
    """JSON can hold half a surrogate pair and NUL, which a row cannot."""
    return text.encode(errors="replace").decode().replace("\0", "?")


def _quoted(text: str) -> str:
    text, half = text.strip(), _LONGEST_QUOTE // 2
    return repr(text if len(text) <= _LONGEST_QUOTE else f"{text[:half]} … {text[-half:]}")

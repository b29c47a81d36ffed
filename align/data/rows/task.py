"""Task: a prompt and what its rewards need to know, a row of GRPO.

The JSON form is `{"prompt": [...], any other column: any JSON value}`; every other column is handed to the rewards as
it stands. A file of preference pairs is such a file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from align.data.rows.message import Messages, RowError, as_dicts, listed, read_messages
from align.data.rows.pair import Row
from align.data.rows.valid import check_prompt
from align.text.shorten import quote

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on

TAKEN_NAMES = {
    **dict.fromkeys(
        ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric", "environments"),
        "TRL calls rewards with an argument of that name",
    ),
    "completion": "one letter from TRL's argument completions, and stock TRL drops it",
    **dict.fromkeys(("image", "images"), "pictures are not supported"),
}
"""Column that a task cannot have → why."""


@dataclass(frozen=True, slots=True)
class Task(Row):
    """A prompt whose completions are scored by rewards."""

    prompt: Messages
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Column → JSON value, for the rewards: a gold answer, say."""

    def __post_init__(self) -> None:
        check_prompt(self.prompt)
        taken = [name for name in self.columns if name in TAKEN_NAMES]
        if taken:
            text = f"a Task must not have the column {taken[0]} ({TAKEN_NAMES[taken[0]]})"
            raise RowError(f"{text}; rename it, to answer for example", "taken_name")
        for name, value in self.columns.items():
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError, RecursionError) as error:
                raise RowError(
                    f"{name} must hold what JSON can, but: {error}; write it as text", "wrong_type"
                ) from None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, the columns beside the prompt."""
        return {"prompt": as_dicts(self.prompt), **self.columns}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make the task from its JSON form.

        Raises:
            RowError: when the values are not a task.
        """
        if not isinstance(values, (dict, Mapping)):
            raise RowError(f"a Task must be a JSON object, but is {quote(values)}", "not_an_object")
        if "prompt" not in values:
            text = f"a Task must have prompt, but it is missing; there is {listed(values)}"
            raise RowError(f"{text}; rename the column that holds the messages", "missing_column")
        columns = {name: value for name, value in values.items() if name != "prompt"}
        return cls(read_messages(values["prompt"], "prompt"), columns)

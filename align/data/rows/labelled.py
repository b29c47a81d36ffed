"""Labelled completion: one answer and whether it is wanted, a row of KTO; and the pairs that such rows make."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from align.data.rows.message import Messages, RowError
from align.data.rows.pair import PreferencePair, Row
from align.data.rows.valid import check_answer, check_meta, check_prompt
from align.text.shorten import quote


@dataclass(frozen=True, slots=True)
class LabelledCompletion(Row):
    """An answer that is wanted or unwanted, with no other beside it: TRL's unpaired preference row."""

    prompt: Messages
    completion: Messages
    label: bool
    """True: wanted."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """JSON values: provenance."""

    def __post_init__(self) -> None:
        check_prompt(self.prompt)
        check_answer(self.prompt, self.completion, "completion")
        if not isinstance(self.label, bool):
            raise RowError(f"label must be true or false, but is {quote(self.label)}", "wrong_type")
        check_meta(self.meta)


def as_labelled(pair: PreferencePair) -> tuple[LabelledCompletion, LabelledCompletion]:
    """The wanted and the unwanted completion of a pair, each with its meta."""
    return (
        LabelledCompletion(pair.prompt, pair.chosen, True, pair.meta),
        LabelledCompletion(pair.prompt, pair.rejected, False, pair.meta),
    )


class PartnerFinder:
    """Pairs of labelled completions with the same prompt: the first wanted with the first unwanted, and so on."""

    def __init__(self) -> None:
        self._waiting: defaultdict[tuple[Messages, bool], deque[tuple[str, LabelledCompletion]]] = defaultdict(deque)

    def add(self, where: str, row: LabelledCompletion) -> PreferencePair | None:
        """The pair that this completion ends, or None while it waits for a partner.

        Metas that are the same become the pair's; others stand under `chosen` and `rejected`.

        Raises:
            RowError: when both say the same; the other one goes on waiting.
        """
        partners = self._waiting[row.prompt, not row.label]
        if not partners:
            self._waiting[row.prompt, row.label].append((where, row))
            return None
        other = partners[0][1]
        good, poor = (row, other) if row.label else (other, row)
        meta = good.meta if good.meta == poor.meta else {"chosen": dict(good.meta), "rejected": dict(poor.meta)}
        pair = PreferencePair(row.prompt, good.completion, poor.completion, meta)
        partners.popleft()
        return pair

    def left(self) -> Iterator[tuple[str, RowError]]:
        """Where each completion without a partner stands, and what it lacks."""
        for (_, label), rows in self._waiting.items():
            for where, _ in rows:
                text = f"a completion with label {str(label).lower()} must have a partner of the same prompt with label"
                todo = f"{str(not label).lower()}, but none is left; add one, or train KTO on the file as it is"
                yield where, RowError(f"{text} {todo}", "no_partner")

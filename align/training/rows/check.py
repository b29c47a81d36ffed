"""Check: which rows the trainer may see, checked before it is built.

TRL cuts a side that is too long, its end of sequence included, and drops some rows with a word in a progress bar only;
both teach the model something that nobody asked for. Here such rows are named, and refused or counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from align.data.lint.gates import Fault
from align.errors import DataError
from align.training.rows.encoding import EncodedRow, encode_chats
from align.training.rows.rules import TokenRules

_NUM_NAMED = 5


@dataclass(frozen=True)
class TokenReport:
    """Token counts over the rows that are trained on."""

    num_rows: int
    dropped: Mapping[str, int]
    """Rows left out → how many, by reason (a slug of `TokenRules.fault`)."""
    num_learned: int
    """Tokens of the first side (chosen, or the SFT completion) over all kept rows: what one epoch teaches; GRPO: 0."""
    longest: int
    """Tokens of the longest kept row: prompt and one side; GRPO: prompt."""

    @property
    def num_too_long(self) -> int:
        """Rows left out because a side would have been cut, or no completion would have fitted."""
        return self.dropped.get("too_long", 0)


@dataclass(frozen=True, slots=True)
class _Measured:
    length: int
    num_learned: int
    fault: Fault | None


def check_tokens(
    rows: Sequence[dict[str, Any]],
    places: Sequence[str],
    sides: Sequence[str],
    tokenizer: Any,
    max_length: int | None,
    on_bad_rows: str,
    end_ids: Collection[int] = (),
) -> tuple[dict[int, int], TokenReport]:
    """Find the rows that may be trained on.

    Args:
        rows: conversational rows, `{"prompt": [...], side: [...]}`.
        places: `file:line` of each row.
        sides: names of the columns that are trained on, the one to be learned first.
        max_length: tokens of prompt plus one side; None sets no limit.
        on_bad_rows: `fail` or `drop`.
        end_ids: tokens at which generation stops, besides the tokenizer's end of sequence.

    Returns:
        Index of each row to keep → tokens of its prompt and longer side, in order; and counts over them.

    Raises:
        DataError: rows that break a rule of `TokenRules` under `fail`, no row left, or a prompt that the chat template
            renders differently once an answer follows.
    """
    answers = [[row[side] for side in sides] for row in rows]
    encoded = encode_chats([row["prompt"] for row in rows], answers, places, tokenizer)
    rules = TokenRules(tokenizer, end_ids, max_length)
    return check_encoded(encoded, places, [sides] * len(encoded), rules, on_bad_rows)


def check_encoded(
    encoded: Sequence[EncodedRow],
    places: Sequence[str],
    sides: Sequence[Sequence[str]],
    rules: TokenRules,
    on_bad_rows: str,
) -> tuple[dict[int, int], TokenReport]:
    """The same for rows that are encoded already; `sides` names the answers of each."""
    return _kept(
        [
            _Measured(row.longest, len(row.completions_ids[0]), rules.fault(row, names))
            for row, names in zip(encoded, sides, strict=True)
        ],
        places,
        on_bad_rows,
        f"rows are longer than trainer.max_length={rules.max_length} tokens",
        "Cutting them would take the end of one side and teach the model not to stop. Raise trainer.max_length",
    )


def check_prompts(
    prompts: Sequence[Any],
    places: Sequence[str],
    tokenizer: Any,
    context: int | None,
    max_completion_length: int,
    on_bad_rows: str,
    template_arguments: Mapping[str, Any],
) -> tuple[dict[int, int], TokenReport]:
    """Find the prompts that leave room for a completion in the model's context.

    Args:
        prompts: lists of messages.
        context: tokens that the model was made for; None sets no limit.
        template_arguments: what the chat template gets besides the messages.

    Returns:
        Index of each prompt to keep → its tokens, in order; and counts over them.

    Raises:
        DataError: over-long prompts under `fail`, or no prompt left.
    """
    texts = tokenizer.apply_chat_template(prompts, add_generation_prompt=True, tokenize=False, **template_arguments)
    lengths = [len(ids) for ids in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]]
    limit = float("inf") if context is None else context - max_completion_length
    return _kept(
        [_Measured(length, 0, Fault("too_long", "") if length > limit else None) for length in lengths],
        places,
        on_bad_rows,
        f"prompts leave no room for trainer.max_completion_length={max_completion_length} tokens in the model's "
        f"context of {context}",
        "Lower trainer.max_completion_length",
    )


def _kept(
    measured: Sequence[_Measured], places: Sequence[str], on_bad_rows: str, too_long: str, advice: str
) -> tuple[dict[int, int], TokenReport]:
    """Sound rows, and counts over them; the others are named, or dropped."""
    kept = [index for index, row in enumerate(measured) if row.fault is None]
    bad = [(place, row, row.fault) for place, row in zip(places, measured, strict=True) if row.fault is not None]
    if bad and (on_bad_rows == "fail" or not kept):
        over_long = [(place, row.length) for place, row, fault in bad if fault.reason == "too_long"]
        unsound = [(place, fault) for place, _, fault in bad if fault.reason != "too_long"]
        lines = _named_by_reason(unsound, len(measured))
        if over_long:
            lines.append(f"{len(over_long)} of {len(measured)} {too_long}: {_longest(over_long)}. {advice}.")
        raise DataError("\n".join(lines) + (" Or leave them out with data: {on_bad_rows: drop}." if kept else ""))
    report = TokenReport(
        num_rows=len(kept),
        dropped=Counter(fault.reason for _, _, fault in bad),
        num_learned=sum(measured[index].num_learned for index in kept),
        longest=max(measured[index].length for index in kept),
    )
    return {index: measured[index].length for index in kept}, report


def _named_by_reason(faults: Sequence[tuple[str, Fault]], num_rows: int) -> list[str]:
    """A line for each reason: its first row, and how many there are."""
    counts = Counter(fault.reason for _, fault in faults)
    first = {fault.reason: (place, fault) for place, fault in reversed(faults)}
    return [
        f"{first[reason][0]}: {first[reason][1].detail} ({reason}: {count:,} of {num_rows:,} rows)"
        for reason, count in counts.items()
    ]


def _longest(rows: Sequence[tuple[str, int]]) -> str:
    named = sorted(rows, key=lambda row: -row[1])[:_NUM_NAMED]
    more = ", …" if len(rows) > _NUM_NAMED else ""
    return ", ".join(f"{place} ({length})" for place, length in named) + more

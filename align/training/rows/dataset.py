"""Dataset: rows as token ids and the pairs among their completions, as the preference trainer reads them."""

from __future__ import annotations

import dataclasses
import itertools
from array import array
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from align.data.rows.margin import margin
from align.data.rows.pair import Group, PreferencePair
from align.errors import DataError
from align.training.rows.check import TokenReport, check_encoded
from align.training.rows.encoding import encode
from align.training.rows.rules import TokenRules

if TYPE_CHECKING:
    from datasets import Dataset


def preference_dataset(
    rows: Sequence[PreferencePair | Group],
    places: Sequence[str],
    tokenizer: Any,
    max_length: int | None,
    on_bad_rows: str,
    end_ids: Collection[int] = (),
    least_score_gap: float = 0.0,
) -> tuple[Dataset, TokenReport]:
    """Encode rows and leave out those that must not be trained on.

    Args:
        places: `file:line` of each row.
        max_length: tokens of a prompt and one completion; None sets no limit.
        on_bad_rows: `fail` or `drop`.
        end_ids: tokens at which generation stops, besides the tokenizer's end of sequence.
        least_score_gap: of a group, the pairs whose scores differ by more than this.

    Returns:
        A dataset with `prompt_ids`, `completions_ids` (one list for each completion), `pairs` (index of the chosen and
        of the rejected completion), `scores` (a number for each completion, or None), `row` (index in `rows`) and
        `length` (tokens of prompt and longest completion), and counts over it.

    Raises:
        DataError: rows break a rule under `fail`, or no row is left.
    """
    from datasets import Dataset

    pairs = [_pairs(row, least_score_gap) for row in rows]
    kept = [index for index, found in enumerate(pairs) if found]
    if len(kept) < len(rows) and (on_bad_rows == "fail" or not kept):
        first = next(place for place, found in zip(places, pairs, strict=True) if not found)
        raise DataError(
            f"{first}: a group must have two candidates whose scores differ by more than "
            f"data.least_score_gap={least_score_gap:g}, but has none ({len(rows) - len(kept)} of {len(rows)} rows). "
            f"Lower it{', or leave such rows out with data: {on_bad_rows: drop}' if kept else ''}."
        )
    kept_places = [places[index] for index in kept]
    encoded = encode([rows[index] for index in kept], tokenizer, kept_places)
    sides = [_sides(rows[index]) for index in kept]
    rules = TokenRules(tokenizer, end_ids, max_length)
    lengths, report = check_encoded(encoded, kept_places, sides, rules, on_bad_rows)
    if len(kept) < len(rows):
        report = dataclasses.replace(report, dropped={**report.dropped, "no_pair": len(rows) - len(kept)})
    numbers = list(lengths)
    columns = {
        "prompt_ids": nested_lists([[encoded[number].prompt_ids] for number in numbers]).flatten(),
        "completions_ids": nested_lists([encoded[number].completions_ids for number in numbers]),
        "pairs": [pairs[kept[number]] for number in numbers],
        "scores": [_scores(rows[kept[number]]) for number in numbers],
        "row": [kept[number] for number in numbers],
        "length": list(lengths.values()),
    }
    return Dataset.from_dict(columns), report


def lengths(dataset: Dataset) -> list[tuple[int, list[int]]]:
    """Tokens of each row's (prompt, completions)."""
    columns = dataset.data.table
    prompts = pc.list_value_length(columns["prompt_ids"]).to_pylist()
    completions = [pc.list_value_length(chunk.values) for chunk in columns["completions_ids"].chunks]
    each = iter(length for chunk in completions for length in chunk.to_pylist())
    counts = pc.list_value_length(columns["completions_ids"]).to_pylist()
    return [(prompt, list(itertools.islice(each, count))) for prompt, count in zip(prompts, counts, strict=True)]


def nested_lists(rows: Sequence[Sequence[array[Any]]]) -> pa.ListArray:
    """Rows of lists as one Arrow array; as Python's lists, 20,000 pairs would take a gigabyte."""
    lists = [each for row in rows for each in row]
    values = np.concatenate([np.frombuffer(each, dtype=each.typecode) for each in lists])
    inner = pa.ListArray.from_arrays(_offsets(lists), values)
    return pa.ListArray.from_arrays(_offsets(rows), inner)


def _offsets(parts: Sequence[Sequence[Any]]) -> pa.Array:
    return pa.array([0, *itertools.accumulate(map(len, parts))], type=pa.int32())


def _pairs(row: PreferencePair | Group, least_score_gap: float) -> list[list[int]]:
    """Index of the chosen and of the rejected completion of each pair to train on."""
    if isinstance(row, PreferencePair):
        return [[0, 1]]
    scored = [(index, one.score) for index, one in enumerate(row.candidates) if one.score is not None]
    return [
        [better, worse] if score > other else [worse, better]
        for (better, score), (worse, other) in itertools.combinations(scored, 2)
        if abs(score - other) > least_score_gap
    ]


def _scores(row: PreferencePair | Group) -> list[float] | None:
    """One for each completion; of a pair only their difference is known. None: not of every completion."""
    if isinstance(row, PreferencePair):
        found = margin(row)
        return None if found is None else [found, 0.0]
    scores = [one.score for one in row.candidates]
    return None if None in scores else [float(score or 0.0) for score in scores]


def _sides(row: PreferencePair | Group) -> Sequence[str]:
    if isinstance(row, PreferencePair):
        return ("chosen", "rejected")
    return [f"candidates[{index}]" for index in range(len(row.candidates))]

"""Margin: by how much chosen was found better than rejected, where a judge or a reward has said so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from align.data.rows.pair import Group, Row


def margin(row: Row) -> float | None:
    """By how much a judge or a reward puts chosen above rejected, or the best of a group above its worst; else None.

    Read from `meta["judge"]`, as `margin`, or `scores` or `votes` of `{"chosen": …, "rejected": …}`; else from
    `meta["margin"]`, or the `score` of `meta["chosen"]` and of `meta["rejected"]`.
    """
    if isinstance(row, Group):
        scores = [one.score for one in row.candidates if one.score is not None]
        return max(scores) - min(scores) if len(scores) > 1 else None
    meta = getattr(row, "meta", None) or {}
    judge = section(meta, "judge")
    if _is_number(judge.get("margin")):
        return float(judge["margin"])
    of_judge = _difference(section(judge, "scores")), _difference(section(judge, "votes"))
    own = float(meta["margin"]) if _is_number(meta.get("margin")) else None
    of_sides = _difference({side: section(meta, side).get("score") for side in ("chosen", "rejected")})
    return next((found for found in (*of_judge, own, of_sides) if found is not None), None)


def section(meta: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """What stands under a name, if it has names of its own; else nothing."""
    value = meta.get(name)
    return value if isinstance(value, (dict, Mapping)) else {}  # dict first: asking an abstract class is slow


def _difference(scores_of: Mapping[str, Any]) -> float | None:
    chosen, rejected = scores_of.get("chosen"), scores_of.get("rejected")
    return float(chosen) - float(rejected) if _is_number(chosen) and _is_number(rejected) else None


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)

"""Reference log-probs: those of a whole dataset before training, from the cache where it knows them."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from accelerate.utils import broadcast_object_list, gather_object

from align.training.step.reference_cache import ReferenceCache, completion_key
from align.tree.layout import TokenGroup

T = TypeVar("T")
Score = Callable[[Sequence[TokenGroup]], list[torch.Tensor]]
"""Token log-probs of each completion of some groups, in order, under the reference; every process calls it as often."""

KEPT_TOLERANCES = {"float32": 1e-4, "bfloat16": 0.05}
"""Nats a token, on average over a completion: more than that between what is kept and what is computed now, and the
cache is not about this model."""
_NUM_CHECKED = 4
_CALLS_KEPT_AT_ONCE = 16
"""Forwards of each process after which what was scored is written: so much is lost to a kill."""


def reference_logps(
    groups: Sequence[TokenGroup],
    score: Score,
    cache: ReferenceCache | None,
    compute: str,
    groups_per_call: int,
    rank: int,
    num_ranks: int,
) -> list[list[array[float]]]:
    """Token log-probs of each completion of each group, in nats and float32.

    Every process must call it with the same groups; each scores its share.

    Args:
        compute: arithmetic, `float32` or `bfloat16`.
    """
    keys = [[completion_key(group.prompt, ids) for ids in group.completions] for group in groups]
    known = _known(groups, keys, score, cache, compute, rank)
    missing = [
        (group, [(key, ids) for key, ids in zip(found, group.completions, strict=True) if key not in known])
        for group, found in zip(groups, keys, strict=True)
    ]
    work = [
        (TokenGroup(group.prompt, [ids for _, ids in new]), [key for key, _ in new]) for group, new in missing if new
    ]
    work.sort(key=lambda item: -item[0].num_tokens)  # rows of one forward are about as long
    total = len(set(itertools.chain.from_iterable(keys)))
    if rank == 0:
        print(f"  reference log-probs: {len(known):,} of {total:,} completions from the cache", flush=True)
    calls = _parts(work, groups_per_call)
    for part in _parts(calls, _CALLS_KEPT_AT_ONCE * num_ranks):
        scored = _scored(part, score, rank, num_ranks)
        if rank == 0 and cache is not None:
            cache.write(scored)
        known |= scored
    return [[known[key] for key in found] for found in keys]


def _known(
    groups: Sequence[TokenGroup],
    keys: Sequence[Sequence[bytes]],
    score: Score,
    cache: ReferenceCache | None,
    compute: str,
    rank: int,
) -> dict[bytes, array[float]]:
    """What the first process reads, on every process, after a few of it were computed again."""
    if cache is None:
        return {}
    said: list[Any] = [cache.read(itertools.chain.from_iterable(keys)) if rank == 0 else None]
    broadcast_object_list(said)
    known: dict[bytes, array[float]] = said[0]
    checked = [index for index, found in enumerate(keys) if known.keys() >= set(found)][:_NUM_CHECKED]
    worst = max((_difference(groups[index], keys[index], known, score) for index in checked), default=0.0)
    if not worst <= KEPT_TOLERANCES[compute]:
        if rank == 0:
            print(f"  reference cache: differs by {worst:.2g} nats a token from the reference; all is scored anew")
            cache.forget()
        return {}
    return known


def _difference(group: TokenGroup, keys: Sequence[bytes], known: dict[bytes, array[float]], score: Score) -> float:
    """Largest difference of a completion's mean log-prob; infinite where the lengths differ."""
    found = [known[key] for key in keys]
    now = score([group])
    if [len(logps) for logps in found] != [len(logps) for logps in now]:
        return float("inf")
    return max(
        abs(sum(kept) / len(kept) - float(logps.double().mean())) for kept, logps in zip(found, now, strict=True)
    )


def _scored(
    calls: Sequence[Sequence[tuple[TokenGroup, list[bytes]]]], score: Score, rank: int, num_ranks: int
) -> dict[bytes, array[float]]:
    """Make the calls, each process its share; the last share is filled up so that all make as many."""
    mine: list[tuple[bytes, array[float]]] = []
    for number in range(-(-len(calls) // num_ranks)):
        items = calls[min(number * num_ranks + rank, len(calls) - 1)]
        logps = score([group for group, _ in items])
        keys = [key for _, keys in items for key in keys]
        mine += [(key, array("f", each.float().tolist())) for key, each in zip(keys, logps, strict=True)]
    return dict(gather_object(mine))


def _parts(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]

"""Duplicates: texts that are the same but for a few edits, found among many without comparing all with all.

Two texts are near when they share enough of their character n-grams (Jaccard: shared over all). Passages that stand in
many of the texts are a template and say nothing of one of them, so they are left out. Candidates come from MinHash
signatures (Broder 1997), cut into bands (Leskovec et al., "Mining of Massive Datasets", 3.4); the exact Jaccard then
decides, so a wrong candidate costs time and never a row. Texts with different numbers in them ask different things.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

NEAR = 0.35
"""Jaccard from which long texts are near. Measured: a tenth of the characters edited leaves 0.5 or more, 15 % leaves
0.33 or more in 99 of 100; unrelated texts stay below 0.15 in Chinese and 0.2 in English."""
NEAR_IF_SHORT = 0.8
"""The same for a text of a dozen words, where one changed word makes another question."""
NUM_VALUES = 256
"""Values of a signature, four bytes each."""


class Match(NamedTuple):
    """Two texts that are near."""

    first: int
    second: int
    """The later of the two."""
    similarity: float
    """Jaccard of their n-grams; 1.0 where the texts are equal."""


def near_duplicates(texts: Sequence[str], near: float = NEAR) -> list[Match]:
    """Every later text that equals or is near an earlier one, by order of the later one.

    A text with very many near ones is compared with the first and the closest sixteen before it, not with all.

    Args:
        texts: as `normalised` (align/text/normal.py) makes them; an empty one is near nothing.
        near: Jaccard from which long texts are near; short ones need more (`NEAR_IF_SHORT`).
    """
    groups: dict[str, list[int]] = {}
    for index, text in enumerate(texts):
        groups.setdefault(text, []).append(index)
    groups.pop("", None)
    different, places = list(groups), list(groups.values())
    matches = [Match(place[0], other, 1.0) for place in places for other in place[1:]]
    for first, second, similarity in _near_pairs(different, near):
        matches += [Match(places[first][0], other, similarity) for other in places[second]]
    return sorted(matches, key=lambda match: (match.second, match.first))


def are_near(first: str, second: str, near: float = NEAR) -> bool:
    """Whether two normalised texts are near, by all of their n-grams."""
    if first == second:
        return True
    return _similarity(ngrams(first), ngrams(second)) >= min(_needed(first, near), _needed(second, near))


def similarity(first: str, second: str) -> float:
    """Share of n-grams that two normalised texts have in common, 0 to 1."""
    return _similarity(ngrams(first), ngrams(second))


def ngrams(text: str) -> Hashes:
    """Hashes of the different n-grams of a text, sorted: three characters in Chinese and its like, else four."""
    return _different(_hashes(text))


def _near_pairs(texts: Sequence[str], near: float) -> Iterator[tuple[int, int, float]]:
    """Among different texts."""
    if len(texts) < 2:
        return
    template = _template(texts)
    signatures = _signatures(texts, template)
    needed = np.array([_needed(text, near) for text in texts])

    @lru_cache(maxsize=10_000)
    def own(index: int) -> Hashes:
        return _own(texts[index], template)

    @lru_cache(maxsize=10_000)
    def numbers(index: int) -> list[str]:
        return _NUMBER.findall(texts[index])

    for first, second in _candidates(signatures, needed):
        found = _similarity(own(first), own(second))
        units = min(_units(texts[first], len(own(first))), _units(texts[second], len(own(second))))
        if found >= _needed_by(units, near) and numbers(first) == numbers(second):
            yield first, second, found


def _hashes(text: str) -> Hashes:
    """Hash of the n-gram at each place; a text shorter than one is filled up."""
    width = _width(text)
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    if len(codes) < width:
        codes = np.concatenate([codes, np.zeros(width - len(codes), np.uint64)])
    num = len(codes) - width + 1
    hashes: Hashes = codes[:num] * _FACTORS[0]
    for place in range(1, width):
        hashes += codes[place : place + num] * _FACTORS[place]
    hashes = (hashes ^ (hashes >> np.uint64(29))) * _FACTORS[4]
    hashes ^= hashes >> np.uint64(32)
    return hashes


def _passages(hashes: Hashes, width: int) -> Hashes:
    """Hash of the passage at each place: four n-grams end to end, so 12 characters in Chinese and 16 elsewhere."""
    num = max(0, len(hashes) - 3 * width)
    passages: Hashes = hashes[:num] * _FACTORS[0]
    for block in range(1, 4):
        passages += hashes[block * width : block * width + num] * _FACTORS[block]
    return passages


def _template(texts: Sequence[str]) -> Hashes:
    """Passages that stand in more than one text of fifty (and in more than ten), from at most 10,000 of the texts."""
    sample = texts[:: -(-len(texts) // 10_000)]
    passages = np.concatenate([_different(_passages(_hashes(text), _width(text))) for text in sample])
    hashes, counts = np.unique(passages, return_counts=True)
    return np.asarray(hashes[counts > max(10, len(sample) // 50)])


def _own(text: str, template: Hashes) -> Hashes:
    """The different n-grams outside of the template; all of them where nothing would be left."""
    hashes, width = _hashes(text), _width(text)
    passages = _passages(hashes, width)
    if len(template) and len(passages):
        places = np.minimum(np.searchsorted(template, passages), len(template) - 1)
        is_template = template[places] == passages
        if is_template.any():
            is_covered = np.zeros(len(hashes), dtype=np.bool_)
            for place in range(3 * width + 1):
                is_covered[place : place + len(passages)] |= is_template
            if not is_covered.all():
                hashes = hashes[~is_covered]
    return _different(hashes)


def _different(hashes: Hashes) -> Hashes:
    hashes = np.sort(hashes)
    is_first = np.ones(len(hashes), dtype=np.bool_)
    np.not_equal(hashes[1:], hashes[:-1], out=is_first[1:])
    different: Hashes = hashes[is_first]
    return different


def _signatures(texts: Sequence[str], template: Hashes) -> NDArray[np.uint32]:
    """[texts, `NUM_VALUES`]; a thousand at a time, since the library hands them over as Python numbers."""
    from rensa import RMinHash

    signatures = np.empty((len(texts), NUM_VALUES), dtype=np.uint32)
    for start in range(0, len(texts), 1000):
        sets = [_own(text, template) for text in texts[start : start + 1000]]
        offsets = np.cumsum([0, *map(len, sets)], dtype=np.uint64)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(np.concatenate(sets), offsets, NUM_VALUES, 1)
        signatures[start : start + 1000] = matrix.to_rows()
    return signatures


def _candidates(signatures: NDArray[np.uint32], needed: NDArray[np.float64]) -> Iterator[tuple[int, int]]:
    """Pairs that agree in a band, and in enough values: within 0.13, four standard errors, of what is needed."""
    num, rows = len(signatures), _rows_of_a_band(signatures)
    pairs = [np.empty(0, dtype=np.int64)]
    for start in range(0, NUM_VALUES - rows + 1, rows):
        band = signatures[:, start : start + rows].astype(np.uint64)
        pairs += [first * num + second for first, second in _neighbours((band * _BAND_FACTORS[:rows]).sum(axis=1))]
    found = np.unique(np.concatenate(pairs))
    for start in range(0, len(found), 50_000):
        first, second = np.divmod(found[start : start + 50_000], num)
        agreement = (signatures[first] == signatures[second]).mean(axis=1)
        is_close = agreement >= np.minimum(needed[first], needed[second]) - 0.13
        yield from zip(first[is_close].tolist(), second[is_close].tolist(), strict=True)


def _neighbours(keys: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(earlier, later) of texts with one key: each with the sixteen before it and with the first."""
    order = np.argsort(keys, kind="stable")
    sorted_keys = keys[order]
    for distance in range(1, 17):
        is_same = sorted_keys[distance:] == sorted_keys[:-distance]
        if not is_same.any():
            return
        yield order[:-distance][is_same], order[distance:][is_same]
    starts = np.searchsorted(sorted_keys, sorted_keys)
    is_far = np.arange(len(keys)) - starts > 16
    yield order[starts[is_far]], order[is_far]


def _rows_of_a_band(signatures: NDArray[np.uint32]) -> int:
    """The fewest values of a band (so the most that is found) that leave at most 2,000,000 candidates to check.

    Judged by 100,000 pairs drawn at random, since it hangs on how alike unrelated texts are.
    """
    num = len(signatures)
    generator = np.random.default_rng(0)
    first, second = generator.integers(0, num, (2, 100_000))
    blocks = [slice(start, start + 10_000) for start in range(0, 100_000, 10_000)]
    alike = np.concatenate([(signatures[first[b]] == signatures[second[b]]).mean(axis=1) for b in blocks])
    alike = alike[first != second]
    for rows in range(3, 16):
        share = (1 - (1 - alike**rows) ** (NUM_VALUES // rows)).mean() if len(alike) else 0.0
        if share * num * num / 2 <= 2_000_000:
            return rows
    return 16


def _similarity(first: Hashes, second: Hashes) -> float:
    both = np.concatenate([first, second])
    both.sort()
    shared = int((both[1:] == both[:-1]).sum())
    return shared / (len(both) - shared)


def _needed(text: str, near: float) -> float:
    return _needed_by(_units(text, len(text)), near)


def _needed_by(units: float, near: float) -> float:
    """From `NEAR_IF_SHORT` at twelve units in a straight line to `near` at 32."""
    return near + max(0.0, NEAR_IF_SHORT - near) * min(1.0, max(0.0, (32 - units) / 20))


def _units(text: str, num: int) -> float:
    """What `num` characters are worth in Chinese ones."""
    return num if _is_dense(text) else num / 4


def _width(text: str) -> int:
    return 3 if _is_dense(text) else 4


def _is_dense(text: str) -> bool:
    """Most characters take three bytes: Chinese and its like, where a character says more."""
    return not text.isascii() and len(text.encode()) > 2 * len(text)


_FACTORS = np.random.default_rng(20241108).integers(2**62, 2**63, 5, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_BAND_FACTORS = np.random.default_rng(7).integers(2**62, 2**63, 16, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_NUMBER = re.compile(r"\d+")

"""Apply: the dataset as a person corrected it: wrong pairs swapped, ties and unsure ones set aside, nothing lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from align.data.files.rows import write_rows
from align.data.rows.pair import Dropped, PreferencePair
from align.errors import ConfigError, DataError
from align.evaluation.noise import Noise, estimate_noise
from align.review.dataset import ReviewSet, noise_path
from align.review.labels import Label, read_labels
from align.review.session import count_strata, noise_record
from align.review.suspicion import strata_of
from align.store.records import write_json

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Applied:
    """What became of the rows."""

    kept: Path
    removed: Path
    """`Dropped` rows that hold the removed pairs whole."""
    noise_path: Path
    counts: dict[str, int]
    """Label, or `not asked` → rows; they add up to the rows of the file."""
    num_repeated: int
    """Rows that repeat another one; its label holds for them."""
    noise: Noise


def apply_labels(dataset: str | Path, output: str | Path) -> Applied:
    """Write the reviewed pairs to `output`, the removed ones and the estimate beside it; an older output is replaced.

    Raises:
        ConfigError: the output is the dataset's own file.
        DataError: no pair of the file is labelled, or none is left.
    """
    data, kept = ReviewSet.read(dataset), Path(output)
    if kept.resolve() == data.file.path.resolve():
        raise ConfigError(f"{kept}: must not be the file that was reviewed; name another, such as reviewed.jsonl")
    labels = {key: label for key, label in read_labels(data.labels_path).items() if key in data.pairs}
    if not any(label.label != "skip" for label in labels.values()):
        raise DataError(f"{data.labels_path}: no pair is labelled; run align review --terminal {dataset}")
    outcomes = [corrected(pair, labels.get(key)) for key, pair in zip(data.keys, data.file.rows, strict=True)]
    rows = [outcome for outcome in outcomes if isinstance(outcome, PreferencePair)]
    if not rows:
        raise DataError(f"{data.file.path}: every pair was labelled tie or skip; no row is left to write")
    strata = dict(zip(data.pairs, strata_of(list(data.pairs.values())), strict=True))
    noise = estimate_noise(count_strata(strata, labels))
    removed = kept.with_name(f"{kept.stem}.removed.jsonl")
    write_rows(kept, rows)
    write_rows(removed, [outcome for outcome in outcomes if isinstance(outcome, Dropped)])
    write_json(noise_path(kept), {"reviewed_as": kept.name, **noise_record(data, noise, labels)})
    counts = Counter(labels[key].label if key in labels else "not asked" for key in data.keys)
    return Applied(kept, removed, noise_path(kept), dict(counts), data.num_repeated, noise)


def corrected(pair: PreferencePair, label: Label | None) -> PreferencePair | Dropped:
    """The pair as its label says; `meta.reviewed` tells what was done. Without a label it stays as it is.

    Of a swapped pair, what `meta` knows of the sides is swapped too, and the judge's record, which was about the pair
    as it stood before, moves to `meta.reviewed.judge_before`.
    """
    if label is None:
        return pair
    reviewed = {"label": label.label, "time": label.time, "swapped": label.label == "wrong"}
    if label.label == "ok":
        return PreferencePair(pair.prompt, pair.chosen, pair.rejected, {**pair.meta, "reviewed": reviewed})
    if label.label == "wrong":
        return PreferencePair(pair.prompt, pair.rejected, pair.chosen, _swapped(pair.meta, reviewed))
    meta = {"reviewed": reviewed, "row": pair.to_dict()}
    return Dropped(f"review_{label.label}", "a person found neither side better or could not say", meta)


def print_applied(applied: Applied) -> None:
    """The counts, the estimate and the files, on the terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    console.print(_count_table(applied))
    if applied.num_repeated:
        console.print(f"{applied.num_repeated:,} of these rows repeat another; its label holds for them")
    console.print(f"wrong in the set as written: {applied.noise.after}")
    console.print(f"pairs: {applied.kept}\nremoved: {applied.removed}\nestimate: {applied.noise_path}", soft_wrap=True)


def _count_table(applied: Applied) -> Table:
    """Every row of the file, once."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_footer=True)
    table.add_column("label", footer="all rows of the file")
    table.add_column("rows", justify="right", footer=f"{sum(applied.counts.values()):,}")
    table.add_column("what was done")
    for name, done in _DONE.items():
        table.add_row(name, f"{applied.counts.get(name, 0):,}", done)
    return table


def _swapped(meta: Mapping[str, Any], reviewed: dict[str, Any]) -> dict[str, Any]:
    others = {name: value for name, value in meta.items() if name not in ("chosen", "rejected", "judge")}
    sides = {_OTHER_SIDE[name]: meta[name] for name in _OTHER_SIDE if name in meta}
    judge = {"judge_before": meta["judge"]} if "judge" in meta else {}
    return {**others, **sides, "reviewed": {**reviewed, **judge}}


_OTHER_SIDE = {"chosen": "rejected", "rejected": "chosen"}
_DONE = {
    "ok": "kept",
    "wrong": "sides swapped, kept",
    "not asked": "kept as it was",
    "tie": "removed to the side file",
    "skip": "removed to the side file",
}

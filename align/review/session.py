"""Session: one person's pass over a dataset: which pair is next, and what the labels so far say about the rest.

It knows nothing of a screen; the terminal and any other page stand on it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from align.data.rows.pair import PreferencePair
from align.data_builders.core.card import fill_noise
from align.evaluation.noise import HALF_WIDTH, Noise, Stratum, estimate_noise, more_labels
from align.review.dataset import ReviewSet
from align.review.labels import Label, LabelFile, Side, Word, now
from align.review.order import WEIGHTS, is_swapped, review_order
from align.review.suspicion import strata_of
from align.store.records import write_json


@dataclass(frozen=True)
class Question:
    """A pair as the person sees it: which side is the chosen one is not told."""

    number: int
    """From 1, counted over all pairs that were asked."""
    key: str
    pair: PreferencePair
    sides: tuple[Side, Side]
    """The side that is shown as A, then the other."""

    def label(self, answer: str) -> Word:
        """What `a`, `b`, `t` or `s` says about the pair."""
        if answer in ("t", "s"):
            return "tie" if answer == "t" else "skip"
        better = self.sides["ab".index(answer)]
        return "ok" if better == "chosen" else "wrong"


class ReviewSession:
    """The questions of a dataset in their order, resumed where the labels end."""

    def __init__(self, data: ReviewSet, labels: LabelFile) -> None:
        self.data = data
        self._file = labels
        keys = list(data.pairs)
        strata = strata_of(list(data.pairs.values()))
        self._stratum = dict(zip(keys, strata, strict=True))
        self._order = [keys[index] for index in review_order(keys, strata)]

    @property
    def num_pairs(self) -> int:
        """Pairs that differ."""
        return len(self._order)

    @property
    def labels(self) -> dict[str, Label]:
        """Key → label, of the pairs that are in the file."""
        return {key: label for key, label in self._file.labels.items() if key in self._stratum}

    @property
    def num_strangers(self) -> int:
        """Labels about pairs that are not in the file: of another version of it, or another file in the folder."""
        return len(self._file.labels.keys() - self._stratum.keys())

    def question(self) -> Question | None:
        """The next pair; None when all were asked."""
        labels = self.labels
        key = next((key for key in self._order if key not in labels), None)
        if key is None:
            return None
        sides: tuple[Side, Side] = ("rejected", "chosen") if is_swapped(key) else ("chosen", "rejected")
        return Question(len(labels) + 1, key, self.data.pairs[key], sides)

    def answer(self, question: Question, answer: str, seconds: float) -> None:
        """Record the answer `a`, `b`, `t` or `s`; it is on disk when this returns."""
        label = question.label(answer)
        self._file.add(Label(question.key, label, now(), round(seconds, 1), question.sides[0]))

    def undo(self) -> bool:
        """Take the last answer back, so that its pair is asked again.

        False when there is none, or it is about a pair of another file: that one is not undone unseen.
        """
        last = next(reversed(self._file.labels), None)
        return last in self._stratum and self._file.undo() is not None

    def noise(self) -> Noise | None:
        """What the labels say; None while none says anything."""
        strata = count_strata(self._stratum, self.labels)
        return estimate_noise(strata) if any(one.num_labelled for one in strata) else None

    def summary(self) -> str:
        """`43 labelled: 7.0 % wrong (2.4 to 15.1 %); about 160 more for ±3 points`."""
        noise = self.noise()
        if noise is None:
            return "0 labelled"
        labels = self.labels
        coming = [self._stratum[key] for key in self._order if key not in labels]
        num_more, points = more_labels(noise.strata, coming), f"±{100 * HALF_WIDTH:g} points"
        if num_more is None:
            advice = f"too few pairs for {points}"
        else:
            advice = f"about {num_more} more for {points}" if num_more else f"within {points}"
        value = f"{100 * noise.rest.value:.1f} % wrong ({100 * noise.rest.low:.1f} to {100 * noise.rest.high:.1f} %)"
        return f"{noise.total('num_labelled')} labelled: {value}; {advice}"

    def write_noise(self) -> bool:
        """Write `noise.json`, and its estimate into the dataset's card; False, and nothing, while no label says any."""
        noise = self.noise()
        if noise is not None:
            write_json(self.data.noise_path, noise_record(self.data, noise, self.labels))
            if self.data.noise_path.name == "noise.json":
                fill_noise(self.data.noise_path.parent)
        return noise is not None


def count_strata(stratum: Mapping[str, str], labels: Mapping[str, Label]) -> list[Stratum]:
    """The strata that have pairs, with their labels counted; both mappings are by key."""
    sizes = Counter(stratum.values())
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for key, label in labels.items():
        counts[stratum[key]][label.label] += 1
    words = ("ok", "wrong", "tie", "skip")
    return [Stratum(name, sizes[name], *(counts[name][word] for word in words)) for name in WEIGHTS if sizes[name]]


def noise_record(data: ReviewSet, noise: Noise, labels: Mapping[str, Label]) -> dict[str, Any]:
    """What `noise.json` holds."""
    return {
        "file": data.file.path.name,
        "fingerprint": data.file.fingerprint,
        "time": now(),
        "repeated_rows": data.num_repeated,
        "median_seconds_a_label": median(label.seconds for label in labels.values()),
        "shown_as_a_and_better": _share_of_a(labels),
        **noise.to_dict(),
    }


def _share_of_a(labels: Mapping[str, Label]) -> float | None:
    """Share of the decided labels in which A was better: about 0.5 unless the person leans to one place."""
    decided = [label for label in labels.values() if label.label in ("ok", "wrong")]
    of_a = sum((label.first == "chosen") == (label.label == "ok") for label in decided)
    return round(of_a / len(decided), 3) if decided else None

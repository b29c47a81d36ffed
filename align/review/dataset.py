"""Dataset: the pairs that a person reviews, and where the labels and the estimate about them lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from align.data.files.rows import SUFFIXES, RowFile, checked_rows
from align.data.rows.pair import PreferencePair
from align.errors import ConfigError
from align.review.labels import pair_key


@dataclass(frozen=True)
class ReviewSet:
    """A file of pairs. A pair that stands in it several times is asked once, and its label holds for all of them."""

    file: RowFile[PreferencePair]
    keys: list[str]
    """Of every row."""
    pairs: dict[str, PreferencePair]
    """Key → pair, the first of its rows."""

    @classmethod
    def read(cls, dataset: str | Path) -> ReviewSet:
        """Read the pairs.

        Args:
            dataset: a `.jsonl` or `.parquet` file, or a folder with `pairs.jsonl` or `pairs.parquet`.

        Raises:
            ConfigError: there is no such file.
            DataError: a row is not a pair.
        """
        path = Path(dataset)
        if path.is_dir():
            there = [path / f"pairs{suffix}" for suffix in SUFFIXES if (path / f"pairs{suffix}").is_file()]
            if not there:
                raise ConfigError(f"{path}: the folder must hold pairs.jsonl, but does not; name the file of pairs")
            path = there[0]
        file = checked_rows(path, PreferencePair)
        keys = [pair_key(pair) for pair in file.rows]
        return cls(file, keys, dict(reversed(list(zip(reversed(keys), reversed(file.rows), strict=True)))))

    @property
    def num_repeated(self) -> int:
        """Rows that say the same as an earlier one."""
        return len(self.keys) - len(self.pairs)

    @property
    def labels_path(self) -> Path:
        """`labels.jsonl` beside the file."""
        return self.file.path.with_name("labels.jsonl")

    @property
    def noise_path(self) -> Path:
        """`noise.json` beside `pairs.jsonl`; `NAME.noise.json` beside a file of another name."""
        return noise_path(self.file.path)


def noise_path(pairs: Path) -> Path:
    """Where the estimate about a file of pairs lies."""
    return pairs.with_name("noise.json" if pairs.stem == "pairs" else f"{pairs.stem}.noise.json")

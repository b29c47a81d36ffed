"""Verified: what `align verify` proved on this machine, kept in the user's cache and asked for before training.

A record holds for one combination of versions, device, arithmetic and shape of attention, and for no other. The package
ships records of cards that it was run on; they hold for the same facts, every one of them, and are overruled by a
verification that fails here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
import trl

import align
from align.errors import StorageError
from align.models.facts import attention_shape
from align.store.records import digest, write_json

SHIPPED = Path(__file__).parents[1] / "verify" / "records"
"""Folder of the records that come with the package."""


@dataclass(frozen=True)
class Machine:
    """The device that a run computes on."""

    kind: str
    """`cpu`, `cuda` or another of torch's device types."""
    name: str
    """As the driver calls it; `cpu` for CPUs."""
    capability: str | None = None
    """CUDA compute capability, `9.0` for example; None elsewhere."""

    @classmethod
    def of(cls, device: torch.device | str | None = None) -> Machine:
        """What stands behind a device; None: the GPU if there is one, else the CPU."""
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if device.type != "cuda":
            return cls(device.type, device.type)
        capability = torch.cuda.get_device_capability(device)
        return cls("cuda", torch.cuda.get_device_name(device), ".".join(map(str, capability)))


def verified(
    config: Any,
    machine: Machine,
    compute: str,
    model: str = "MODEL",
    records: Path | None = None,
    shipped: Path = SHIPPED,
) -> str | None:
    """None where a record stands, else why not and what to do.

    Args:
        config: the model's, of transformers.
        compute: `float32` or `bfloat16`.
        model: its name, for the command to run.
        records: folder of the records; None: in the user's cache.
        shipped: folder of those that count where the first has none of these facts.
    """
    facts = _facts(config, machine, compute)
    own = _read(_file(facts, records))
    if own.get("facts") == facts:
        has_passed = not own.get("failed")
    else:
        has_passed = _read(_file(facts, shipped)).get("facts") == facts
    if has_passed:
        return None
    state = "failed `align verify`" if own.get("failed") else "has not been verified"
    return (
        f"the tree {state} on {machine.name} with torch {torch.__version__} in {compute}; run "
        f"`align verify {model} --compute {compute}`"
    )


def record(
    config: Any, machine: Machine, compute: str, measured: Mapping[str, Any], records: Path | None = None
) -> Path:
    """Write down that verification passed.

    Args: as for `verified`.
        measured: what was found, kept for people to read.

    Raises:
        StorageError: the folder cannot be written.
    """
    facts = _facts(config, machine, compute)
    file = _file(facts, records)
    _write(file, {"facts": facts, "measured": dict(measured)})
    return file


def forget(config: Any, machine: Machine, compute: str, records: Path | None = None, shipped: Path = SHIPPED) -> None:
    """Take an older record away, when verification has failed since; one that is shipped is overruled by another."""
    facts = _facts(config, machine, compute)
    file = _file(facts, records)
    file.unlink(missing_ok=True)
    if _file(facts, shipped).exists():
        _write(file, {"facts": facts, "failed": True})


def _facts(config: Any, machine: Machine, compute: str) -> dict[str, Any]:
    return {
        "align": align.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "trl": trl.__version__,
        "device": machine.name,
        "capability": machine.capability,
        "compute": compute,
        "model_type": config.model_type,
        **asdict(attention_shape(config)),
    }


def _file(facts: Mapping[str, Any], records: Path | None) -> Path:
    from platformdirs import user_cache_dir

    folder = records or Path(user_cache_dir("align")) / "verified"
    return folder / f"{facts['model_type']}-{facts['compute']}-{digest(facts)[:16]}.json"


def _write(file: Path, content: dict[str, Any]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, content)
    except OSError as error:
        what = "failed" if content.get("failed") else "passed"
        raise StorageError(
            f"{file}: the record of a {what} verification cannot be written: {error.strerror}"
        ) from error


def _read(file: Path) -> dict[str, Any]:
    """Empty where there is no file, or none that can be read as a record."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a damaged record is no record
        return {}
    return data if isinstance(data, dict) else {}

"""Running sums: metrics of many steps on the device, added up over processes once for each logged row."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from align.training.step.metrics import Sums


class RunningSums:
    """Sum and count of each metric since the last logged row, in this process."""

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}
        """Name → [sum, count], float64."""

    def add(self, sums: Sums) -> None:
        """Add what one part of a step has measured."""
        for name, (total, count) in sums.items():
            both = torch.stack([total.detach().double(), count.detach().double().to(total.device)])
            self._sums[name] = self._sums[name] + both if name in self._sums else both

    def means(self, over_processes: Callable[[torch.Tensor], torch.Tensor] | None = None) -> dict[str, float]:
        """Means over all processes; a metric that counted nothing is left out.

        Args:
            over_processes: adds a tensor up over processes; None: there is one.
        """
        if not self._sums:
            return {}
        table = torch.stack(list(self._sums.values()))
        if over_processes is not None:
            table = over_processes(table)
        return {
            name: total / count for name, (total, count) in zip(self._sums, table.tolist(), strict=True) if count > 0
        }

    def clear(self) -> None:
        """Begin anew."""
        self._sums = {}

    def to_dict(self) -> dict[str, list[float]]:
        """As JSON, for a checkpoint."""
        return {name: both.tolist() for name, both in self._sums.items()}

    def restore(self, saved: Mapping[str, list[float]], device: torch.device) -> None:
        """Go on from a checkpoint."""
        self._sums = {name: torch.tensor(both, dtype=torch.float64, device=device) for name, both in saved.items()}

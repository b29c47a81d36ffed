"""Golden losses: what `align/training/loss/golden.json` holds, worked out in 50 decimal digits without torch.

Each formula is written out here a second time, from its paper or from TRL, so that a slip in
`align.training.loss.with_reference` cannot repeat itself. `python -m
tests.training.loss.golden_losses` writes the file again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[3] / "align" / "training" / "loss" / "golden.json"
INPUTS = {
    "policy_chosen": [-12.5, -40.25, -7.0, -88.0],
    "policy_rejected": [-14.0, -38.0, -21.5, -90.5],
    "ref_chosen": [-13.0, -39.0, -7.5, -80.0],
    "ref_rejected": [-13.5, -38.5, -18.0, -85.0],
    "len_chosen": [10.0, 32.0, 5.0, 64.0],
    "len_rejected": [12.0, 30.0, 20.0, 70.0],
}
"""Summed log-probs in nats and tokens of four pairs; every number is exact in binary."""

ONE, HALF = Decimal(1), Decimal("0.5")


def compute() -> dict[str, Any]:
    """The whole content of the file; each value is the closest float64."""
    with localcontext() as context:
        context.prec = 50
        columns = [[Decimal(value) for value in column] for column in INPUTS.values()]
        rows = list(zip(*columns, strict=True))
        expected: dict[str, Any] = {}
        for beta in ("0.1", "0.5"):
            each = {name: [f(Decimal(beta), *row) for row in rows] for name, f in _with_reference().items()}
            expected[f"beta={beta}"] = each | _sorted(Decimal(beta), columns)
        expected |= {name: [f(*row) for row in rows] for name, f in _without_reference().items()}
        expected["kto beta=0.1 KL=0.4 w=1,1"] = _kto(Decimal("0.1"), Decimal("0.4"), rows)
        return {"inputs": INPUTS, "expected": _floats(expected)}


def sigmoid(x: Decimal) -> Decimal:
    return ONE / (ONE + (-x).exp())


def log_sigmoid(x: Decimal) -> Decimal:
    return sigmoid(x).ln()


def _with_reference() -> dict[str, Callable[..., Decimal]]:
    """Name → loss of (beta, policy chosen, policy rejected, reference chosen, reference rejected, lengths)."""

    def smoothed(z: Decimal, epsilon: Decimal) -> Decimal:
        return -(1 - epsilon) * log_sigmoid(z) - epsilon * log_sigmoid(-z)

    def robust(z: Decimal, epsilon: Decimal) -> Decimal:
        return (-(1 - epsilon) * log_sigmoid(z) + epsilon * log_sigmoid(-z)) / (1 - 2 * epsilon)

    def discopop(z: Decimal, tau: Decimal) -> Decimal:
        share = sigmoid(z / tau)
        return -log_sigmoid(z) * (1 - share) + (-z).exp() * share

    def exo(z: Decimal, epsilon: Decimal) -> Decimal:
        wins, loses = log_sigmoid(z) - (1 - epsilon).ln(), log_sigmoid(-z) - epsilon.ln()
        return sigmoid(z) * wins + sigmoid(-z) * loses

    small, large = Decimal("0.1"), Decimal("0.3")
    of_ratios: dict[str, Callable[[Decimal, Decimal, Decimal], Decimal]] = {
        "sigmoid": lambda beta, a, b: -log_sigmoid(beta * (a - b)),
        "cdpo_eps0.1": lambda beta, a, b: smoothed(beta * (a - b), small),
        "robust_eps0.1": lambda beta, a, b: robust(beta * (a - b), small),
        "cdpo_eps0.3": lambda beta, a, b: smoothed(beta * (a - b), large),
        "robust_eps0.3": lambda beta, a, b: robust(beta * (a - b), large),
        "hinge": lambda beta, a, b: max(Decimal(0), 1 - beta * (a - b)),
        "ipo_sum": lambda beta, a, b: ((a - b) - 1 / (2 * beta)) ** 2,
        "nca_pair": lambda beta, a, b: (
            -log_sigmoid(beta * a) - HALF * log_sigmoid(-beta * a) - HALF * log_sigmoid(-beta * b)
        ),
        "bco_pair_delta0": lambda beta, a, b: -log_sigmoid(beta * a) - log_sigmoid(-beta * b),
        "sppo_hard": lambda beta, a, b: (a - HALF / beta) ** 2 + (b + HALF / beta) ** 2,
        "apo_zero": lambda beta, a, b: 1 - sigmoid(beta * a) + sigmoid(beta * b),
        "apo_down": lambda beta, a, b: sigmoid(beta * a) + 1 - sigmoid(beta * (a - b)),
        "discopop_tau0.05": lambda beta, a, b: discopop(beta * (a - b), Decimal("0.05")),
        "exo_pair_eps1e-3": lambda beta, a, b: exo(beta * (a - b), Decimal("0.001")),
    }
    of_means: dict[str, Callable[[Decimal, Decimal], Decimal]] = {
        "ipo_token_mean": lambda beta, delta: (delta - 1 / (2 * beta)) ** 2,
        "sigmoid_norm": lambda beta, delta: -log_sigmoid(beta * delta),
    }
    return {
        **{name: lambda beta, pc, pr, rc, rr, nc, nr, f=f: f(beta, pc - rc, pr - rr) for name, f in of_ratios.items()},
        **{
            name: lambda beta, pc, pr, rc, rr, nc, nr, f=f: f(beta, (pc - rc) / nc - (pr - rr) / nr)
            for name, f in of_means.items()
        },
    }


def _sorted(beta: Decimal, columns: list[list[Decimal]]) -> dict[str, list[Decimal]]:
    """The losses that sort the batch."""
    pc, pr, rc, rr = columns[:4]

    def of(left: list[Decimal], right: list[Decimal]) -> list[Decimal]:
        return [-log_sigmoid(beta * (a - b)) for a, b in zip(sorted(left), sorted(right), strict=True)]

    def minus(left: list[Decimal], right: list[Decimal]) -> list[Decimal]:
        return [a - b for a, b in zip(left, right, strict=True)]

    return {
        "aot_paired": of(minus(pc, pr), minus(rc, rr)),
        "aot_unpaired": of(minus(pc, rc), minus(pr, rr)),
    }


def _without_reference() -> dict[str, Callable[..., Decimal]]:
    def log_odds(mean: Decimal) -> Decimal:
        return mean - (1 - mean.exp()).ln()

    return {
        "simpo beta=2.0 gamma/beta=0.5": lambda pc, pr, rc, rr, nc, nr: -log_sigmoid(2 * (pc / nc - pr / nr - HALF)),
        "simpo beta=2.5 gamma=1.375": lambda pc, pr, rc, rr, nc, nr: (
            -log_sigmoid(Decimal("2.5") * (pc / nc - pr / nr) - Decimal("1.375"))
        ),
        "orpo beta=0.1 (-lc + beta*-logsig(log odds))": lambda pc, pr, rc, rr, nc, nr: (
            -pc / nc - Decimal("0.1") * log_sigmoid(log_odds(pc / nc) - log_odds(pr / nr))
        ),
        "cpo beta=0.1 (summed logps, no NLL)": lambda pc, pr, rc, rr, nc, nr: -log_sigmoid(Decimal("0.1") * (pc - pr)),
    }


def _kto(beta: Decimal, kl: Decimal, rows: list[tuple[Decimal, ...]]) -> dict[str, list[Decimal]]:
    return {
        "desirable": [1 - sigmoid(beta * (pc - rc - kl)) for pc, _, rc, *_ in rows],
        "undesirable": [1 - sigmoid(beta * (kl - (pr - rr))) for _, pr, _, rr, *_ in rows],
    }


def _floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _floats(one) for name, one in value.items()}
    return [float(one) for one in value]


if __name__ == "__main__":
    FILE.write_text(json.dumps(compute(), indent=1) + "\n", encoding="utf-8")

"""Verify rows: the few ragged rows that `align verify` scores, and one way to measure any forward on them.

The tokens are those of a real text, since the log-probs of random ones are so large that float32 loses their digits.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch

from align.models.facts import unwrapped
from align.training.loss.global_loss import GlobalCounts, global_loss
from align.training.loss.objective import Objective, objective
from align.training.loss.pairs import PairLogps
from align.training.loss.terms import loss_terms
from align.training.step.tree_forward import completion_logps
from align.tree.attention import Route
from align.tree.head import score_positions
from align.tree.layout import TokenGroup, plan_tree

SIGMOID = objective({"beta": 0.1})
BOTH_COUNTS = objective({"loss_type": ["sigmoid", "sft"], "beta": 0.1, "loss_weights": [1.0, 0.1]})
"""A mean over pairs and one over chosen tokens."""

LENGTHS = ((17, (9, 13)), (1, (6, 3)), (12, (5, 1, 7, 4)), (31, (2, 2)), (5, (133, 20)))
"""Tokens of each group's (prompt, completions): among them a prompt of one token, a completion of one, four completions
of one prompt, and a completion longer than a block of grouped attention."""
PARTS = ((0, 1, 2, 3), (4,))
"""Groups of each micro-batch, so that padded rows are not all as long as the longest."""
TEXT = (
    "The harbour of the old town lies where the river meets the sea. In spring, when the snow in the "
    "mountains melts, the water is brown and fast, and the fishermen wait at home for calmer days. My "
    "grandmother kept a small shop near the bridge: rope, lamps, tea, and a jar of sweets for the children "
    "who carried her parcels. She could tell from the sound of the bell who had come in. "
    "春天的河水很急，渔夫们在家里等着。 "
    "She asked each of them the same three questions, wrote the answers into a blue notebook, and never told "
    "anyone why. When she died we found forty such books, one for each year, with the weather on the left "
    "page and what people had said about it on the right."
)


@dataclass(frozen=True)
class Rows:
    """Groups of tokens, and what a reference says of their completions."""

    groups: tuple[TokenGroup, ...]
    reference: tuple[torch.Tensor, ...] = ()
    """Summed log-probs of each group's completions, float32 and in nats."""

    @property
    def num_tokens(self) -> int:
        """Tokens with each prompt counted once."""
        return sum(group.num_tokens for group in self.groups)

    @property
    def counts(self) -> GlobalCounts:
        """Of all pairs of all groups, the earlier completion chosen."""
        pairs = [pair for group in self.groups for pair in itertools.combinations(group.completions, 2)]
        return GlobalCounts(len(pairs), sum(len(chosen) for chosen, _ in pairs))


class Logps(NamedTuple):
    """Log-probs of some groups, in nats, with gradient."""

    tokens_M: torch.Tensor
    sums: torch.Tensor
    """One for each completion."""


Gradients: TypeAlias = Sequence[torch.Tensor | None]
Forward: TypeAlias = Callable[[Any, Sequence[TokenGroup]], Logps]
"""A way to score groups under a model."""


@dataclass(frozen=True)
class Measured:
    """What one forward and backward pass over all rows gave."""

    tokens_M: torch.Tensor
    """log p of each completion token, float64."""
    sums: torch.Tensor
    """log p of each completion, float64."""
    loss: float
    gradients: Gradients
    """Of each trained parameter, in its type."""


def rows_of(tokenizer: Any) -> Rows:
    """The same lengths whatever the tokenizer: windows of one text, again and again."""
    ids = itertools.cycle(tokenizer(TEXT, add_special_tokens=False)["input_ids"])

    def take(number: int) -> list[int]:
        return list(itertools.islice(ids, number))

    return Rows(
        tuple(TokenGroup(take(prompt), [take(each) for each in completions]) for prompt, completions in LENGTHS)
    )


def padded(model: Any, groups: Sequence[TokenGroup], fused: bool = False) -> Logps:
    """Each completion in a right-padded row of its own, with its prompt again.

    Args:
        fused: score completion positions with the head that training uses, and not the model's own logits, which in
            bfloat16 are rounded once more.
    """
    rows = [([*group.prompt, *completion], len(completion)) for group in groups for completion in group.completions]
    width = max(len(ids) for ids, _ in rows)
    device = next(model.parameters()).device
    ids_B_T = torch.zeros(len(rows), width, dtype=torch.long)
    mask_B_T = torch.zeros_like(ids_B_T)
    scored_B_T = torch.zeros(len(rows), width, dtype=torch.bool)
    for number, (ids, length) in enumerate(rows):
        ids_B_T[number, : len(ids)] = torch.tensor(ids)
        mask_B_T[number, : len(ids)] = 1
        scored_B_T[number, len(ids) - length : len(ids)] = True
    labels_M = ids_B_T[scored_B_T].to(device)
    before_B_T = scored_B_T.roll(-1, dims=1).to(device)  # the first column is never scored
    inputs = {"input_ids": ids_B_T.to(device), "attention_mask": mask_B_T.to(device), "use_cache": False}
    if fused:
        base = unwrapped(model)
        hidden_M_H = base.base_model(**inputs).last_hidden_state[before_B_T]
        tokens_M = score_positions(hidden_M_H, labels_M, base.get_output_embeddings())["log_probs"]
    else:
        logits_M_V = model(**inputs).logits[:, -width:][before_B_T]  # some adapters put rows before these
        tokens_M = logits_M_V.double().log_softmax(-1).gather(-1, labels_M[:, None])[:, 0]
    parts = torch.split(tokens_M, [length for _, length in rows])
    return Logps(tokens_M, torch.stack([part.double().sum() for part in parts]).float())


def by_tree(route: Route | None = None) -> Forward:
    """Packed rows through one route; None takes the one that training would."""

    def forward(model: Any, groups: Sequence[TokenGroup]) -> Logps:
        plan = plan_tree(groups).to(next(model.parameters()).device)
        tokens_M = completion_logps(model, plan, route)
        return Logps(tokens_M, plan.sums(tokens_M))

    return forward


def measure(
    model: Any,
    rows: Rows,
    forward: Forward,
    parts: Sequence[Sequence[int]] = PARTS,
    goal: Objective = SIGMOID,
    arithmetic: AbstractContextManager[Any] | None = None,
) -> Measured:
    """Loss and gradient of one optimizer step, cut into `parts` (numbers of groups).

    Args:
        arithmetic: entered around each forward, autocast for example; it must be enterable more than once.
    """
    model.zero_grad(set_to_none=True)
    scored: dict[int, Logps] = {}
    loss = 0.0
    for part in parts:
        share, logps = _share(model, rows, forward, part, goal, arithmetic or nullcontext())
        share.backward()  # type: ignore[no-untyped-call]
        loss += float(share.detach())
        scored |= zip(part, logps, strict=True)
    gradients = tuple(parameter.grad for parameter in model.parameters() if parameter.requires_grad)
    model.zero_grad(set_to_none=True)
    in_order = [scored[number] for number in sorted(scored)]
    tokens_M, sums = (torch.cat(column).detach().double() for column in zip(*in_order, strict=True))
    return Measured(tokens_M, sums, loss, gradients)


def loss_of(model: Any, rows: Rows, forward: Forward, parts: Sequence[Sequence[int]]) -> float:
    """The loss alone, of a forward that keeps what a gradient would need."""
    shares = [_share(model, rows, forward, part, SIGMOID, nullcontext())[0] for part in parts]
    return float(sum(share.detach().double() for share in shares))


def _share(
    model: Any,
    rows: Rows,
    forward: Forward,
    part: Sequence[int],
    goal: Objective,
    arithmetic: AbstractContextManager[Any],
) -> tuple[torch.Tensor, list[Logps]]:
    """A part's share of the step's loss, and the log-probs of each of its groups."""
    groups = [rows.groups[number] for number in part]
    with arithmetic:
        logps = forward(model, groups)
    tokens = torch.split(logps.tokens_M, [sum(map(len, group.completions)) for group in groups])
    sums = torch.split(logps.sums, [len(group.completions) for group in groups])
    pairs = _pairs(groups, sums, [rows.reference[number] for number in part])
    share = global_loss(loss_terms(pairs, goal), rows.counts)
    return share, [Logps(*each) for each in zip(tokens, sums, strict=True)]


def relative(found: Gradients, expected: Gradients) -> float:
    """Norm of the difference of two gradients over the norm of the one expected."""
    both = [pair for pair in zip(found, expected, strict=True) if pair != (None, None)]
    difference = [_zero_or(one).to(_zero_or(other).device) - _zero_or(other) for one, other in both]
    return ratio(norm(difference), norm(expected))


def norm(gradients: Gradients) -> float:
    """Of all of them as one vector, added up in float64."""
    squares = [
        float(torch.linalg.vector_norm(each, dtype=torch.float64)) ** 2 for each in gradients if each is not None
    ]
    return math.sqrt(sum(squares))


def ratio(part: float, whole: float) -> float:
    """NaN, which no check lets pass, where the whole is nothing."""
    return part / whole if whole else math.nan


def _zero_or(gradient: torch.Tensor | None) -> torch.Tensor:
    return torch.zeros(()) if gradient is None else gradient.float()


def _pairs(groups: Sequence[TokenGroup], sums: Sequence[torch.Tensor], references: Sequence[torch.Tensor]) -> PairLogps:
    """All pairs of each group, the earlier completion chosen."""
    columns: list[list[torch.Tensor]] = [[], [], [], [], [], []]
    for group, policy, reference in zip(groups, sums, references, strict=True):
        chosen, rejected = torch.triu_indices(len(policy), len(policy), offset=1, device=policy.device)
        lengths = torch.tensor([len(ids) for ids in group.completions], device=policy.device)
        for column, values in zip(columns, (policy, lengths, reference), strict=False):
            column.append(values[chosen])
        for column, values in zip(columns[3:], (policy, lengths, reference), strict=True):
            column.append(values[rejected])
    joined = [torch.cat(column) for column in columns]
    return PairLogps(
        chosen_logps_B=joined[0],
        num_chosen_tokens_B=joined[1],
        ref_chosen_logps_B=joined[2],
        rejected_logps_B=joined[3],
        num_rejected_tokens_B=joined[4],
        ref_rejected_logps_B=joined[5],
    )

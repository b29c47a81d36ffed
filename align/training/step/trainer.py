"""Preference trainer: TRL's DPOTrainer with honest losses, each prompt encoded once, and means over the whole step.

TRL keeps loading, sharding, LoRA switching, the loop and saving. Here are the batch (`packs`), the loss (`objective`)
and what is logged. Two private methods of TRL are replaced, `_prepare_dataset` (rows arrive encoded) and
`_precompute_ref_logps` (one value for each completion, kept between runs); `align/patches` lists all of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import DistributedType
from datasets import Dataset
from trl import DPOTrainer

from align.training.loss.global_loss import GlobalCounts, global_loss
from align.training.loss.objective import Objective
from align.training.loss.pairs import PairLogps
from align.training.loss.terms import LossTerm
from align.training.rows.dataset import nested_lists
from align.training.step.choice import Forward
from align.training.step.metrics import pair_sums, term_sums, token_sums
from align.training.step.models import PreferenceModels
from align.training.step.packs import Pack, PackCollator
from align.training.step.reference_cache import ReferenceCache
from align.training.step.reference_logps import reference_logps
from align.training.step.running_sums import RunningSums
from align.training.step.scores import pair_terms, side_sums
from align.tree.layout import TokenGroup


@dataclass(frozen=True)
class PreferencePath:
    """How a preference trainer computes; made by the recipe."""

    objective: Objective
    forward: Forward
    compute: str
    """Arithmetic, `float32` or `bfloat16`."""
    tokens_per_forward: int | None = None
    """Tokens of one forward; None: a micro-batch is one."""
    cache: ReferenceCache | None = None
    """Where reference log-probs are kept under `precompute_ref_log_probs`."""


class PreferenceTrainer(DPOTrainer):  # type: ignore[misc]  # TRL is untyped
    """Trains on datasets of `preference_dataset`. The loss is a mean over all pairs of a step, however it is cut."""

    def __init__(self, path: PreferencePath, **arguments: Any) -> None:
        self.path = path
        self.models = PreferenceModels(self, path.forward)
        self.sums = {"train": RunningSums(), "eval": RunningSums()}
        if not path.objective.needs_reference:
            arguments["args"].precompute_ref_log_probs = True  # else TRL would load a reference that nobody asks
        tokenizer = arguments["processing_class"]
        pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        collator = PackCollator(path.forward, pad_id, path.tokens_per_forward)
        super().__init__(data_collator=collator, **arguments)
        self.loss_is_scaled_for_ga = True  # `compute_loss` divides by the counts of the whole step
        self.models.prepare()

    # What TRL would do to the rows

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        assert "completions_ids" in dataset.column_names, "rows must come from `preference_dataset`"
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        if not self.path.objective.needs_reference:
            return dataset
        groups = [TokenGroup(row["prompt_ids"], row["completions_ids"]) for row in dataset]
        found = reference_logps(
            groups,
            self.models.score_reference,
            self.path.cache,
            self.path.compute,
            batch_size,
            self.accelerator.process_index,
            self.accelerator.num_processes,
        )
        return dataset.add_column("ref_logps", nested_lists(found))

    # The loss

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], None]:
        """The micro-batches of a step, each with the counts of all of them in all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        mine = [[sum(_counts(pack)[k] for batch in batches for pack in batch["packs"]) for k in range(3)]]
        most = [len(batch["packs"]) for batch in batches]
        said = self.accelerator.gather(torch.tensor([[*mine[0], *most]], device=self.accelerator.device))
        num_pairs, num_chosen_tokens, num_read = said[:, :3].sum(0).tolist()
        if batches:
            self._total_train_tokens += num_read
            counts = GlobalCounts(num_pairs=num_pairs, num_chosen_tokens=num_chosen_tokens)
            for batch, num_forwards in zip(batches, said[:, 3:].amax(0).tolist(), strict=True):
                batch.update(counts=counts, num_forwards=num_forwards)
        return batches, None

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward of each pack in turn; gradients are exchanged after the last one."""
        packs, counts, num_forwards = inputs["packs"], inputs["counts"], inputs["num_forwards"]
        losses = []
        for number in range(num_forwards):
            with self._exchange(model, number == num_forwards - 1):
                part = {"packs": packs[number : number + 1] or [packs[-1].emptied()], "counts": counts}
                losses.append(super().training_step(model, part))
        return torch.stack(losses).sum()

    @contextlib.contextmanager
    def _exchange(self, model: Any, is_last: bool) -> Iterator[None]:
        """Leave gradients in this process unless it is the last pack of the last micro-batch of a step."""
        state = self.accelerator.gradient_state
        if is_last or not state.sync_gradients:
            yield
            return
        is_engine = self.accelerator.distributed_type == DistributedType.DEEPSPEED
        state._set_sync_gradients(False)
        try:
            with contextlib.nullcontext() if is_engine else self.accelerator.no_sync(model):
                yield
        finally:
            state._set_sync_gradients(True)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """This process's share of the step's mean, times the processes, since gradients are averaged over them."""
        assert not return_outputs, "there are no logits to return"
        mode = "train" if self.model.training else "eval"
        counts, packs = inputs.get("counts"), inputs["packs"]
        if counts is None:
            packs = self._filled_up(packs)
        loss = torch.stack([self._share(model, pack, counts, mode) for pack in packs]).sum()
        return loss if counts is None else loss * self.accelerator.num_processes

    def _filled_up(self, packs: list[Pack]) -> list[Pack]:
        """As many packs as the process with the most has."""
        if self.path.tokens_per_forward is None or self.accelerator.num_processes == 1:
            return packs
        most = int(self.accelerator.gather(torch.tensor([len(packs)], device=self.accelerator.device)).max())
        return [*packs, *[packs[-1].emptied()] * (most - len(packs))]

    def _share(self, model: Any, pack: Pack, counts: GlobalCounts | None, mode: str) -> torch.Tensor:
        fields, ref_logps_M = self.models.policy_fields(model, pack), self._reference_logps(pack)
        if not pack.num_pairs:  # takes part in the collectives of a sharded model and in nothing else
            return fields["log_probs"].sum() * 0.0
        pairs, terms = pair_terms(pack, fields, ref_logps_M, self.path.objective)
        self._add_metrics(mode, pack, fields, pairs, terms)
        return global_loss(terms, counts or GlobalCounts(pack.num_pairs, pack.num_chosen_tokens))

    def _reference_logps(self, pack: Pack) -> torch.Tensor | None:
        if not self.path.objective.needs_reference:
            return None
        return pack.ref_logps_M if pack.ref_logps_M is not None else self.models.reference_logps(pack)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Of the matrix products of a forward and backward pass; attention and what a reference takes are left out."""
        num_tokens = sum(pack.num_tokens for pack in inputs["packs"])
        num_weights = int(self.model.num_parameters(exclude_embeddings=True))
        return int(6 * num_tokens * num_weights)

    # What is logged

    def _add_metrics(
        self, mode: str, pack: Pack, fields: dict[str, torch.Tensor], pairs: PairLogps, terms: list[LossTerm]
    ) -> None:
        num_chosen = pairs.num_chosen_tokens_B.sum()
        sums = self.sums[mode]
        sums.add(pair_sums(pairs, self.path.objective))
        sums.add(token_sums(*side_sums(pack, fields)))
        sums.add(term_sums(terms, num_chosen))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means over all pairs since the last row; an evaluation's loss becomes that over all its pairs."""
        mode = "train" if self.model.training else "eval"
        means = self.sums[mode].means(self._sum_over_processes)
        self.sums[mode].clear()
        if means:
            self._metrics[mode].update({name: [value] for name, value in means.items()})
            self._metrics[mode]["num_tokens"] = [self._total_train_tokens]
            if mode == "eval" and "eval_loss" in logs:
                logs["eval_loss"] = sum(weight * means[f"loss/{name}"] for name, weight in self.path.objective.losses)
        super().log(logs, start_time)

    def _sum_over_processes(self, table: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.accelerator.reduce(table, reduction="sum"))


def _counts(pack: Pack) -> tuple[int, int, int]:
    return pack.num_pairs, pack.num_chosen_tokens, pack.num_read_tokens

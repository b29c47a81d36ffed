"""Run: every check of `align verify`, in the order of its lines.

Each check prints a line. What passed is recorded (`align.training.step.verified`), and on CUDA a run takes the tree by
itself only where such a record stands. Under two minutes: a few short rows, and of a large model its first layers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
import transformers

import align
from align.errors import RefusedError
from align.models.facts import attention_shape, unwrapped
from align.models.load import load_model, load_tokenizer
from align.models.resolve import resolve
from align.training.step import verified as verify_record
from align.training.step.tree_forward import score_trees, why_no_tree
from align.training.step.verified import Machine
from align.training.verify import model as verify_model
from align.training.verify import routes as verify_routes
from align.training.verify.finding import Finding, Verification
from align.training.verify.losses import check_losses
from align.training.verify.rows import Measured, Rows, by_tree, measure, padded, rows_of
from align.tree.attention import Route
from align.tree.dense import dense_attention
from align.tree.varlen import kernel_or_reason

OFFSET = 3.0
"""Nats between the references of one completion and the next, so that each pair has a margin of its own."""


def run_checks(
    model: str,
    compute: Literal["float32", "bfloat16"],
    routes: Mapping[str, Route] | None,
    fault: Route | None,
    records: Path | None,
) -> Verification:
    """What `verify.verify` promises."""
    fault = fault or verify_routes.sees_sibling
    began = time.monotonic()
    torch.set_float32_matmul_precision("highest")  # some images of NVIDIA's set TF32 for every process
    machine = Machine.of()
    resolved = resolve(model)
    loaded = load_model(resolved, compute, "cpu")
    config = unwrapped(loaded).config
    unfit = why_no_tree(loaded)
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, align {align.__version__}"
    print(f"verify: {model} on {machine.name}, {compute}; {versions}")
    head_size = attention_shape(config).head_size
    varlen = kernel_or_reason(torch.device(machine.kind), getattr(torch, compute), head_size)
    print(f"  varlen: {varlen}")
    for note in verify_model.shorten(loaded, torch.device(machine.kind)):
        print(f"  {note}")
    if unfit is not None:
        print(f"  the tree does not fit this model: {unfit}; its padded rows are verified")
    loaded.to(machine.kind)
    findings = []
    for finding in _findings(loaded, rows_of(load_tokenizer(resolved)), compute, unfit is None, routes, fault):
        print(f"  {finding}", flush=True)
        findings.append(finding)
    seconds = time.monotonic() - began
    failed = [finding for finding in findings if not finding.is_ok]
    if failed:
        verify_record.forget(config, machine, compute, records)
        raise RefusedError(_failure(failed, len(findings), machine))
    print(f"verify: all {len(findings)} checks passed in {seconds:.0f} s")
    file = None
    if unfit is None:
        measured = {
            "model": model,
            "seconds": round(seconds, 1),
            "varlen": varlen,
            "findings": [asdict(one) for one in findings],
        }
        file = verify_record.record(config, machine, compute, measured, records)
        print(f"  recorded in {file}")
    return Verification(model, machine, compute, tuple(findings), unfit, varlen, seconds, file)


def _failure(failed: list[Finding], num_checks: int, machine: Machine) -> str:
    names = ", ".join(dict.fromkeys(finding.name for finding in failed))
    return (
        f"align verify: every check must pass, but {len(failed)} of {num_checks} failed on {machine.name} with torch "
        f"{torch.__version__}: {names}. Where only routes failed, train with forward: padded; else do not train with "
        "these versions. Please report the lines above."
    )


def _findings(
    model: Any, rows: Rows, compute: str, has_tree: bool, routes: Mapping[str, Route] | None, fault: Route
) -> Iterator[Finding]:
    """Every check in the order of its line."""
    yield from check_losses()
    head_size = attention_shape(unwrapped(model).config).head_size
    in_float32, rounded = (
        routes or verify_routes.routes_of(model.device, dtype, head_size) for dtype in (torch.float32, torch.bfloat16)
    )
    before = verify_model.left_padded_logits(model, rows)
    autocast = torch.autocast(model.device.type, dtype=torch.bfloat16)
    with verify_model.in_float32(model):
        rows, exact = _exact(model, rows)
        if has_tree:
            score_trees(model)
        yield from _checks_of_model(model, rows, has_tree)
        if has_tree:
            yield from verify_routes.check_exact(model, rows, exact, {**in_float32, "dense": dense_attention})
            yield verify_routes.check_fault_exact(model, rows, exact, fault)
            if compute == "bfloat16":
                kind = "autocast to bfloat16"
                yield from verify_routes.check_rounded(model, rows, exact, rounded, fault, kind, autocast)
    if compute == "bfloat16":
        forward = by_tree() if has_tree else padded
        yield verify_model.check_log_2(model, rows, forward, "bfloat16 weights")
    if has_tree and compute == "bfloat16":
        yield from verify_routes.check_rounded(model, rows, exact, rounded, fault, "bfloat16 weights", None)
    if has_tree:
        yield verify_model.check_unchanged(before, verify_model.left_padded_logits(model, rows))


def _exact(model: Any, rows: Rows) -> tuple[Rows, Measured]:
    """Padded rows of a float32 model, and as the reference log-probs a little beside theirs."""
    with torch.no_grad():
        sums = [padded(model, [group]).sums for group in rows.groups]
    steps = [OFFSET * torch.arange(len(each), device=each.device) for each in sums]
    rows = replace(rows, reference=tuple(one + step for one, step in zip(sums, steps, strict=True)))
    return rows, measure(model, rows, padded)


def _checks_of_model(model: Any, rows: Rows, has_tree: bool) -> Iterator[Finding]:
    """With padded rows, and with the route that training would take; the long group adds time and nothing else."""
    rows = Rows(rows.groups[:-1], rows.reference[:-1])
    for name, forward in {"padded": padded, **({"tree": by_tree()} if has_tree else {})}.items():
        yield verify_model.check_log_2(model, rows, forward, name)
        yield verify_model.check_equal_sides(model, rows, forward, name)
        yield from verify_model.check_invariance(model, rows, forward, name)

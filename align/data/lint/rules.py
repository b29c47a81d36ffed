"""Lint: what in a file of rows cannot teach, teaches the wrong thing, or stands twice; found without a model.

A row goes for its first fault only, so kept and dropped add up. What only the whole file shows (length, openings,
repeated prompts) is a warning and costs no row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pydantic import Field

from align.data.lint.duplicates import NEAR, NEAR_IF_SHORT, similarity
from align.data.lint.gates import Fault, GateSettings, apply_gates, side_fault, side_text
from align.data.lint.leaks import Passages
from align.data.lint.openings import telling_openings
from align.data.lint.repeats import mark_repeats, prompt_text
from align.data.lint.report import Finding, LintReport
from align.data.rows.instruction import Instruction
from align.data.rows.margin import margin, section
from align.data.rows.pair import Demonstration, Dropped, Group, PreferencePair, Row
from align.settings.base import Settings
from align.text.normal import normalised


class LintSettings(Settings):
    """How alike is too alike."""

    max_similarity: float = Field(default=0.9, gt=0, le=1)
    """Drop a pair whose sides share more of their character n-grams (Jaccard); 1: only equal ones. DPO on sides that
    are alike lowers the probability of both (arXiv 2410.08847); the paper measures hidden states and names no limit
    for texts. At 0.9 about one word in fifty differs. Right/wrong pairs that differ by a figure: 1, and an NLL term."""
    near_duplicate: float = Field(default=NEAR, ge=0.2, le=1)
    """Share of character n-grams (Jaccard) from which long texts are near-duplicates; short ones need up to 0.8."""
    max_length_ratio: float | None = Field(default=None, gt=1)
    """Drop a pair whose longer side has more than so many times the characters of the shorter; None: any."""
    min_margin: float = Field(default=0.0)
    """Drop a pair whose judge's margin (`margin`) is not above this, where it has one: a tie, or the wrong way."""


def lint_rows(
    rows: Sequence[Row],
    settings: LintSettings | None = None,
    *,
    gates: GateSettings | None = None,
    instructions: Mapping[str, Instruction] | None = None,
    against: Mapping[str, Sequence[Row]] | None = None,
    places: Sequence[str] | None = None,
) -> LintReport:
    """Find what has to go and what to know; the rows themselves are not changed.

    Args:
        rows: of one kind, in the file's order. The sides of a `Group` are not judged.
        gates: as the dataset was built with.
        instructions: name (`good`, `bad`) → instruction that made the sides and must not stand in them.
        against: name of a file → its rows, whose prompts must not stand in `rows`, nor near ones.
        places: of each row where it stands, `file:line`; default: `row 1` and so on.
    """
    settings, gates = settings or LintSettings(), gates or GateSettings()
    places = places or [f"row {number}" for number in range(1, len(rows) + 1)]
    passages = Passages.of(instructions or {})
    prompts = [prompt_text(row) for row in rows]
    faults = [_fault(row, prompt, settings, gates, passages) for row, prompt in zip(rows, prompts, strict=True)]
    repeats = mark_repeats(rows, prompts, faults, against or {}, settings.near_duplicate, places)
    kept = [index for index, fault in enumerate(faults) if fault is None]
    dropped = [
        Dropped(fault.reason, fault.detail, {"where": place, "row": row.to_dict()})
        for row, fault, place in zip(rows, faults, places, strict=True)
        if fault is not None
    ]
    findings = [*_row_findings(rows, dropped, settings, passages, against or {}), repeats]
    findings += _file_findings([row for row in (rows[index] for index in kept) if isinstance(row, PreferencePair)])
    kind = type(rows[0]).__name__ if rows else "Row"
    return LintReport(kind, [rows[index] for index in kept], dropped, findings)


def _fault(row: Row, prompt: str, settings: LintSettings, gates: GateSettings, passages: Passages) -> Fault | None:
    """What is wrong with the row by itself."""
    if isinstance(row, PreferencePair):
        return _gate_fault(row, gates) or _pair_fault(row, prompt, settings, passages) or _margin_fault(row, settings)
    if isinstance(row, Demonstration):
        text = side_text(row.completion)
        known = section(row.meta, "completion") or section(row.meta, "chosen") or row.meta
        if fault := side_fault(row.prompt, text, known, gates.chosen, gates.language):
            return Fault(f"completion_{fault.reason}", fault.detail)
        return _leak(passages, {"completion": normalised(text)}, prompt)
    return _margin_fault(row, settings) if isinstance(row, Group) else None


def _gate_fault(pair: PreferencePair, gates: GateSettings) -> Fault | None:
    dropped = apply_gates(pair, gates)
    return None if dropped is None else Fault(dropped.reason, dropped.detail)


def _pair_fault(pair: PreferencePair, prompt: str, settings: LintSettings, passages: Passages) -> Fault | None:
    chosen, rejected = side_text(pair.chosen), side_text(pair.rejected)
    shorter, longer = sorted((len(chosen), len(rejected)))
    texts = {"chosen": normalised(chosen), "rejected": normalised(rejected)}
    if settings.max_similarity < 1 and shorter > settings.max_similarity * longer / 2:
        alike = similarity(*texts.values())
        if alike > settings.max_similarity:
            return Fault("too_alike", f"the sides share {alike:.2f} of their n-grams, over {settings.max_similarity}")
    if fault := _leak(passages, texts, prompt):
        return fault
    if settings.max_length_ratio is not None and longer > settings.max_length_ratio * shorter:
        return Fault("length_ratio", f"sides of {len(chosen)} and {len(rejected)} characters")
    return None


def _leak(passages: Passages, texts: Mapping[str, str], prompt: str) -> Fault | None:
    for side, text in texts.items():
        if fault := passages.leak(text, prompt):
            return Fault(f"{side}_{fault.reason}", fault.detail)
    return None


def _margin_fault(row: Row, settings: LintSettings) -> Fault | None:
    found = margin(row)
    if found is None or found > settings.min_margin:
        return None
    return Fault("low_margin", f"margin {found:g} is not above {settings.min_margin:g}")


def _row_findings(
    rows: Sequence[Row],
    dropped: Sequence[Dropped],
    settings: LintSettings,
    passages: Passages,
    against: Mapping[str, Sequence[Row]],
) -> Iterator[Finding]:
    """Each check with its count: those that found something, those that did not, and those that could not look."""
    counts, total = Counter(one.reason for one in dropped), len(rows)
    first = {one.reason: f"{one.meta['where']}: {one.detail}" for one in reversed(dropped)}
    has_sides = any(isinstance(row, PreferencePair | Demonstration) for row in rows)
    num_margins = sum(margin(row) is not None for row in rows)
    is_pairs = any(isinstance(row, PreferencePair) for row in rows)
    checks = {
        "gates": (
            has_sides,
            "empty, identical, cut off, refusal, wrong language, too long",
            "these rows have no sides",
        ),
        "too_alike": (is_pairs, f"sides over {settings.max_similarity} alike", "these rows are no pairs"),
        "leaks_instruction": (
            has_sides and bool(passages.sources),
            f"{len(passages.sources)} passages looked for",
            "no instruction given" if has_sides else "these rows have no sides",
        ),
        "length_ratio": (is_pairs and settings.max_length_ratio is not None, "", "max_length_ratio is not set"),
        "low_margin": (num_margins > 0, f"{num_margins} rows have a margin", "no row has a judge's margin"),
        "in_other_file": (bool(against), "against " + ", ".join(against), "no --against file given"),
        "duplicate": (True, "equal but for case, spaces and punctuation", ""),
        "near_duplicate": (True, f"over {settings.near_duplicate} alike, short ones up to {NEAR_IF_SHORT}", ""),
    }
    for check, (is_done, done, undone) in checks.items():
        reasons = [reason for reason in counts if _check_of(reason) == check]
        for reason in reasons:
            yield Finding(reason, counts[reason], total, "goes", first[reason])
        if not reasons:
            yield Finding(check, 0, total, "ok" if is_done else "not checked", done if is_done else undone)


def _check_of(reason: str) -> str:
    if reason.endswith("leaks_instruction"):
        return "leaks_instruction"
    known = ("too_alike", "length_ratio", "low_margin", "in_other_file", "duplicate", "near_duplicate")
    return reason if reason in known else "gates"


def _file_findings(pairs: Sequence[PreferencePair]) -> Iterator[Finding]:
    """What the pairs that are kept show together."""
    if not pairs:
        return
    sides = [(side_text(pair.chosen), side_text(pair.rejected)) for pair in pairs]
    yield Finding.of_lengths([(len(chosen), len(rejected)) for chosen, rejected in sides])
    starts = [(normalised(chosen[:80]), normalised(rejected[:80])) for chosen, rejected in sides]
    yield Finding.of_openings(telling_openings(starts), len(pairs))

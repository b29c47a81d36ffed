"""Card: `README.md` beside the rows of a dataset, in English and in Chinese, as hubs show it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from align.data.lint.gates import side_text
from align.data.rows.pair import PreferencePair
from align.data_builders.core.coverage import coverage_rows
from align.store.records import read_json, write_text
from align.store.redact import redact
from align.store.run_folder import versions

if TYPE_CHECKING:
    from align.data.lint.report import LintReport
    from align.data_builders.core.report import BuildReport
    from align.data_builders.core.settings import BuilderSettings

ENGLISH = {
    "heading": "English",
    "intro": "Preference pairs made by {builder}; every setting is in `builder.yaml`.",
    "prompts": "prompts",
    "repeated_prompts": "repeated prompts, asked once",
    "kept": "rows kept",
    "dropped": "rows dropped",
    "reason": "dropped: `{name}`",
    "lengths": "characters, median chosen / rejected",
    "longer": "chosen is the longer side",
    "teacher": "teacher",
    "student": "student",
    "judge": "judge",
    "sampling": "sampling",
    "spent": "spent",
    "nothing": "nothing",
    "noise": "label noise",
    "labelled": "{number} pairs looked at",
    "no_noise": "not estimated; `align review --terminal {folder}`",
    "made_with": "made with",
}
"""What the card says, by the name of the thing."""

CHINESE = {
    "heading": "中文",
    "intro": "由 {builder} 生成的偏好数据对；全部设置见 `builder.yaml`。",
    "prompts": "提示数",
    "repeated_prompts": "重复的提示（只问一次）",
    "kept": "保留的行",
    "dropped": "丢弃的行",
    "reason": "丢弃原因：`{name}`",
    "lengths": "字符数中位数 chosen / rejected",
    "longer": "chosen 较长的比例",
    "teacher": "教师模型",
    "student": "学生模型",
    "judge": "裁判",
    "sampling": "采样设置",
    "spent": "花费",
    "nothing": "无",
    "noise": "标签噪声",
    "labelled": "人工检查了 {number} 对",
    "no_noise": "尚未估计；请运行 `align review --terminal {folder}`",
    "made_with": "生成工具",
}

LANGUAGES = (ENGLISH, CHINESE)


def write_card(folder: Path, builder: str, settings: BuilderSettings, report: BuildReport, lint: LintReport) -> None:
    """Write `README.md` beside the rows: how many, how long, from whom, at what cost, what was dropped, and the lint.

    The line on noise is filled from `noise.json` in the folder, unless that is of other rows; without it the card names
    the command.
    """
    who = settings.model_dump(mode="json", include={"teacher", "student", "judge"}, exclude_defaults=True)
    asked = {**who, **settings.model_dump(mode="json", include={"sampling"})}
    lines = [f"# {folder.name}", ""]
    for words in LANGUAGES:
        lines += [f"## {words['heading']}", "", words["intro"].format(builder=builder), "", "| | |", "|---|---|"]
        lines += [f"| {label} | {value} |" for label, value in _table(folder, words, asked, report)]
        lines.append("")
    lines += ["## lint · 数据检查", "", lint.markdown(), ""]
    if report.chapters:
        header, *rows = (f"| {' | '.join(map(_cell, row))} |" for row in coverage_rows(report.chapters))
        lines += [header, "|---|---:|---:|---:|---|", *rows, ""]
    write_text(folder / "README.md", redact("\n".join(lines)))


def _table(
    folder: Path, words: Mapping[str, str], asked: Mapping[str, Any], report: BuildReport
) -> list[tuple[str, str]]:
    """(Label, value) of each line, in the language of the words."""
    counts = report.counts()
    rows = [(words[name], f"{counts[name]:,}") for name in ("prompts", "repeated_prompts", "kept", "dropped")]
    rows += [(words["reason"].format(name=name), f"{num:,}") for name, num in counts["dropped_by_reason"].items()]
    rows += [(words[name], value) for name, value in _lengths(report)]
    rows += [(words[name], f"`{_cell(value)}`") for name, value in asked.items()]
    spent = ", ".join(f"{amount:g} {currency}" for currency, amount in counts["spent"].items())
    rows.append((words["spent"], spent or words["nothing"]))
    rows.append((words["noise"], _noise(folder, words)))
    made_with = f"align {versions()['align-recipes']}, transformers {versions()['transformers']}"
    return [*rows, (words["made_with"], made_with)]


def _lengths(report: BuildReport) -> list[tuple[str, str]]:
    """(Name, value) of what the lengths of both sides are; none without pairs."""
    pairs = [row for row in report.rows if isinstance(row, PreferencePair)]
    if not pairs:
        return []
    chosen, rejected = ([len(side_text(getattr(pair, side))) for pair in pairs] for side in ("chosen", "rejected"))
    longer = sum(c > r for c, r in zip(chosen, rejected, strict=True)) / len(pairs)
    return [("lengths", f"{median(chosen):g} / {median(rejected):g}"), ("longer", f"{longer:.0%}")]


def fill_noise(folder: Path) -> None:
    """Write what `noise.json` says now into a card that is there already."""
    path = folder / "README.md"
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").split("\n")
    for words in LANGUAGES:
        start = f"| {words['noise']} | "
        lines = [f"{start}{_noise(folder, words)} |" if line.startswith(start) else line for line in lines]
    write_text(path, "\n".join(lines))


def _noise(folder: Path, words: Mapping[str, str]) -> str:
    """What `noise.json` says of these very rows, or the command that makes it."""
    found = read_json(folder / "noise.json")
    share = found.get("noise_of_rest")
    if found.get("fingerprint") != _fingerprint(folder / "pairs.jsonl") or not isinstance(share, Mapping):
        return words["no_noise"].format(folder=folder)
    interval = f"{share['value']:.1%} [{share['low']:.1%}, {share['high']:.1%}]"
    return f"{interval}; {words['labelled'].format(number=found.get('labelled'))}"


def _fingerprint(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def _cell(value: object) -> str:
    """A value as a cell of a table can hold it."""
    text = f"{value:.3g}" if isinstance(value, float) else value if isinstance(value, str) else None
    shown = text if text is not None else json.dumps(value, ensure_ascii=False)
    return shown.replace("|", "\\|").replace("\n", " ")

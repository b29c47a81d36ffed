"""Card: one README.md that says the same in English and in Chinese."""

from __future__ import annotations

import hashlib
import json
import string
from pathlib import Path
from typing import Any

import pytest

from align.data.lint.rules import lint_rows
from align.data.rows.pair import Dropped, Message, PreferencePair
from align.data_builders.core.card import CHINESE, ENGLISH, fill_noise, write_card
from align.data_builders.core.report import BuildReport
from align.data_builders.core.settings import BuilderSettings
from align.teachers.ledger.budget import UNITS
from align.teachers.ledger.ledger import Totals


@pytest.fixture
def report() -> BuildReport:
    answer = (Message("assistant", "长江，当然。"),)
    pair = PreferencePair((Message("user", "哪条河？"),), answer, (Message("assistant", "Hm."),))
    return BuildReport([pair], [Dropped("chosen_cut_off")], 2, 1, Totals(), {"CNY": UNITS // 4})


def card(folder: Path, report: BuildReport) -> list[str]:
    settings = BuilderSettings(prompts=["哪条河？"], output_dir=str(folder))
    write_card(folder, "ContrastBuilder", settings, report, lint_rows(report.rows))
    return (folder / "README.md").read_text(encoding="utf-8").splitlines()


def test_both_languages_say_the_same(tmp_path: Path, report: BuildReport) -> None:
    lines = card(tmp_path, report)
    lines = lines[: lines.index("## lint · 数据检查")]
    start = lines.index("## 中文")
    english, chinese = ([line for line in part if line.startswith("|")] for part in (lines[:start], lines[start:]))
    assert "| rows kept | 1 |" in english and "| 保留的行 | 1 |" in chinese
    assert "| dropped: `chosen_cut_off` | 1 |" in english and "| 丢弃原因：`chosen_cut_off` | 1 |" in chinese
    assert "| spent | 0.25 CNY |" in english and "| 花费 | 0.25 CNY |" in chinese
    assert "| characters, median chosen / rejected | 6 / 3 |" in english
    values = [[line.split(" | ")[-1] for line in part if "align " not in line] for part in (english, chinese)]
    assert values[0] == values[1]


def test_what_was_not_run_names_its_command(tmp_path: Path, report: BuildReport) -> None:
    lines = card(tmp_path, report)
    assert f"| label noise | not estimated; `align review --terminal {tmp_path}` |" in lines
    assert f"| 标签噪声 | 尚未估计；请运行 `align review --terminal {tmp_path}` |" in lines


def test_an_estimate_of_these_rows_fills_its_line_and_one_of_others_does_not(
    tmp_path: Path, report: BuildReport
) -> None:
    (tmp_path / "pairs.jsonl").write_bytes(b"{}")
    record: dict[str, Any] = {"fingerprint": hashlib.sha256(b"{}").hexdigest(), "labelled": 60}
    record["noise_of_rest"] = {"value": 0.125, "low": 0.05, "high": 0.2}
    card(tmp_path, report)
    (tmp_path / "noise.json").write_text(json.dumps(record))
    fill_noise(tmp_path)
    lines = (tmp_path / "README.md").read_text(encoding="utf-8").splitlines()
    assert lines == card(tmp_path, report)
    assert "| label noise | 12.5% [5.0%, 20.0%]; 60 pairs looked at |" in lines
    assert "| 标签噪声 | 12.5% [5.0%, 20.0%]; 人工检查了 60 对 |" in lines
    (tmp_path / "pairs.jsonl").write_bytes(b"other")
    assert not any("12.5%" in line for line in card(tmp_path, report))


def test_every_label_is_in_both_languages() -> None:
    def slots(text: str) -> set[str | None]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    assert {name: slots(ENGLISH[name]) for name in ENGLISH} == {name: slots(CHINESE[name]) for name in CHINESE}

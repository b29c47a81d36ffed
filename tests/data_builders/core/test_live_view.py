"""Progress: what is shown adds up with what happened."""

from __future__ import annotations

import asyncio
import json

from align.data.rows.pair import Dropped, Message, PreferencePair
from align.data_builders.core import live_view as progress
from align.data_builders.core.live_view import Progress
from align.teachers.base import Sampling
from align.teachers.ledger.ledger import Ledger
from align.teachers.ledger.recorded import RecordedTeacher
from align.teachers.scripted import ScriptedTeacher

PAIR = PreferencePair((Message("user", "Hi?"),), (Message("assistant", "Yes [b]"),), (Message("assistant", "No"),))


def lines(capsys) -> list[dict]:
    said = capsys.readouterr().err.splitlines()
    return [json.loads(line)["progress"] for line in said if line.startswith('{"progress"')]


def test_without_a_terminal_a_line_of_json_comes_every_few_seconds_even_if_nothing_moves(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "EVERY_S", 0.01)

    async def main() -> None:
        async with Ledger.open(tmp_path / "l") as ledger, Progress(3, ledger) as shown:
            while len(found) < 2:  # however long that takes on a busy machine
                await asyncio.sleep(0.01)
                found.extend(lines(capsys))
            shown.show(PAIR)
            shown.show(Dropped("identical"))
            shown.show(Dropped("identical"))

    found: list[dict] = []
    asyncio.run(main())
    found += lines(capsys)
    assert len(found) >= 3 and found[0]["rows_done"] == 0
    assert (found[-1]["rows_done"], found[-1]["rows"], found[-1]["dropped"]) == (3, 3, {"identical": 2})


def test_calls_and_tokens_are_those_of_the_ledger(tmp_path):
    async def main() -> dict:
        async with Ledger.open(tmp_path / "l") as ledger, Progress(2, ledger) as shown:
            teacher = RecordedTeacher(ScriptedTeacher("s", lambda messages, sampling, index: "fine"), ledger)
            for text in ("a", "b", "a"):
                await teacher.complete([Message("user", text)], Sampling())
            return shown.facts()

    facts = asyncio.run(main())
    assert (facts["calls_answered"], facts["calls_from_ledger"], facts["calls_under_way"]) == (2, 1, 0)


def test_the_first_pair_is_shown_side_by_side_as_it_is(tmp_path, capsys):
    async def main() -> None:
        async with Ledger.open(tmp_path / "l") as ledger, Progress(1, ledger) as shown:
            shown.show(PAIR)

    asyncio.run(main())
    assert "Yes [b]" in capsys.readouterr().err

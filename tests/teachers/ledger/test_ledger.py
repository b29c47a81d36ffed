"""The ledger: bought once, kept through kills, one writer, and what it says afterwards."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from align.errors import AnswerError, ConfigError, RefusedError, StorageError
from align.teachers.ledger.entry import Answer, Call, Outcome, State
from align.teachers.ledger.file import refuse_network_disk
from align.teachers.ledger.ledger import Ledger
from align.teachers.ledger.report import export, spending, unknown_outcomes

ANSWER = Answer("Paris", "capital of France", "stop", "m-0731", 12, 4, 3)
CNY = "CNY"


def call(text: str = "hello", **changes) -> Call:
    body = {"messages": [{"role": "user", "content": text}], "temperature": changes.pop("temperature", 0.7)}
    return Call(**{"teacher": "t", "model": "m", "body": body, "index": 0, **changes})


class Shop:
    """Buys answers through a ledger and counts how many."""

    def __init__(self, ledger: Ledger, outcome: Outcome | None = None, gate: asyncio.Event | None = None) -> None:
        self.ledger, self.num_bought, self.gate = ledger, 0, gate
        self.outcome = outcome or Outcome(State.ANSWERED, cost=7, answer=ANSWER)

    async def buy(self, wanted: Call) -> Answer:
        async def ask() -> Answer:
            entry = await self.ledger.begin(wanted, worst_case=10, currency=CNY)
            self.num_bought += 1
            if self.gate is not None:
                await self.gate.wait()
            await self.ledger.settle(entry, self.outcome, CNY)
            return self.outcome.answer or ANSWER

        return await self.ledger.answer(wanted, ask)


def bought(path: Path, *calls: Call, **options) -> tuple[list[Answer | BaseException], int]:
    """Answers to calls, one after another, and how many were bought."""

    async def main():
        async with Ledger.open(path, run=options.pop("run", "r"), **options.pop("open", {})) as ledger:
            shop = Shop(ledger, **options)
            answers = [(await asyncio.gather(shop.buy(one), return_exceptions=True))[0] for one in calls]
        return answers, shop.num_bought

    return asyncio.run(main())


def states(path: Path) -> list[str]:
    database = sqlite3.connect(path)
    try:
        return [state for (state,) in database.execute("SELECT state FROM entries ORDER BY id")]
    finally:
        database.close()


def test_an_equal_call_is_bought_once_and_found_whole_by_the_next_process(tmp_path):
    path = tmp_path / "ledger.sqlite"
    assert bought(path, call(), call()) == ([ANSWER, ANSWER], 1)
    assert bought(path, call()) == ([ANSWER], 0)


@pytest.mark.parametrize(
    "other",
    [
        call("goodbye"),
        call(teacher="another"),
        call(model="another"),
        call(temperature=0.8),
        call(index=1),
        Call("t", "m", {**call().body, "seed": 1}),
    ],
    ids=["messages", "teacher", "model", "temperature", "index", "another parameter"],
)
def test_a_call_that_differs_in_anything_is_bought_anew(tmp_path, other):
    assert bought(tmp_path / "ledger.sqlite", call(), other)[1] == 2


def test_the_order_of_settings_does_not_make_another_call():
    assert call().key == Call("t", "m", dict(reversed(call().body.items()))).key


def test_equal_calls_under_way_wait_for_one_request(tmp_path):
    async def main():
        async with Ledger.open(tmp_path / "l") as ledger:
            shop = Shop(ledger)
            answers = await asyncio.gather(*(shop.buy(call()) for _ in range(20)))
        return answers, shop.num_bought

    assert asyncio.run(main()) == ([ANSWER] * 20, 1)


def test_a_caller_who_gives_up_leaves_the_request_to_the_others(tmp_path):
    async def main():
        gate = asyncio.Event()
        async with Ledger.open(tmp_path / "l") as ledger:
            shop = Shop(ledger, gate=gate)
            first, second = asyncio.create_task(shop.buy(call())), asyncio.create_task(shop.buy(call()))
            while not shop.num_bought:
                await asyncio.sleep(0)
            first.cancel()
            gate.set()
            return await second, shop.num_bought

    assert asyncio.run(main()) == (ANSWER, 1)


def test_the_intent_is_on_disk_before_the_request_and_the_answer_before_it_is_given(tmp_path):
    path = tmp_path / "l"
    seen = []

    async def main():
        async with Ledger.open(path) as ledger:

            async def ask():
                entry = await ledger.begin(call(), 10, CNY)
                seen.append(states(path))
                await ledger.settle(entry, Outcome(State.ANSWERED, 7, answer=ANSWER), CNY)
                return ANSWER

            await ledger.answer(call(), ask)
            seen.append(states(path))

    asyncio.run(main())
    assert seen == [["sent"], ["answered"]]


def test_closing_waits_for_what_is_on_the_wire_and_sends_nothing_more(tmp_path):
    path = tmp_path / "l"

    async def main():
        gate = asyncio.Event()
        ledger = Ledger.open(path)
        shop = Shop(ledger, gate=gate)
        on_the_wire = asyncio.create_task(shop.buy(call()))
        while not shop.num_bought:
            await asyncio.sleep(0)

        async def never():
            await asyncio.Event().wait()

        waiting = asyncio.create_task(ledger.answer(call("later"), never))
        await asyncio.sleep(0)
        closing = asyncio.create_task(ledger.aclose())
        await asyncio.sleep(0)
        gate.set()
        await closing
        return await asyncio.gather(on_the_wire, waiting, return_exceptions=True)

    answer, cancelled = asyncio.run(main())
    assert answer == ANSWER and isinstance(cancelled, asyncio.CancelledError)
    assert states(path) == ["answered"]


def test_a_failed_call_is_asked_again_only_when_told(tmp_path):
    failed = Outcome(State.FAILED, cost=0, reason="bad_request: too long: 9,000 tokens")
    path = tmp_path / "l"
    bought(path, call(), outcome=failed)
    (error,), num_bought = bought(path, call())
    assert isinstance(error, AnswerError) and num_bought == 0
    assert (error.reason, error.detail) == ("bad_request", "too long: 9,000 tokens")
    assert bought(path, call(), open={"asks_failed_again": True}) == ([ANSWER], 1)
    assert bought(path, call()) == ([ANSWER], 0)


@pytest.mark.parametrize("state", [State.REFUSED, State.UNKNOWN], ids=lambda state: state.value)
def test_a_call_without_an_answer_is_asked_again(tmp_path, state):
    path = tmp_path / "l"
    bought(path, call(), outcome=Outcome(state, cost=None))
    assert bought(path, call()) == ([ANSWER], 1)
    assert states(path) == [state.value, "answered"]


HOLDER = """
import asyncio, sys
from align.teachers.ledger.ledger import Ledger
from align.teachers.ledger.entry import Call

async def main():
    ledger = Ledger.open(sys.argv[1], run="r")
    for text in "ab":
        await ledger.begin(Call("t", "m", {"text": text}), 10, "CNY")
    print("holding", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def holder(tmp_path):
    """A process that has the ledger and two requests on the wire."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path / "l"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "holding\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_told_who_holds_the_ledger(tmp_path, holder):
    with pytest.raises(RefusedError, match=f"process {holder.pid} on .* since .* is writing into it"):
        Ledger.open(tmp_path / "l")
    assert spending(tmp_path / "l")[0].num_unknown == 2


def test_after_a_kill_the_ledger_is_free_and_what_was_on_the_wire_is_unknown_and_counted(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    ledger = Ledger.open(tmp_path / "l", run="r")
    assert ledger.budget.spent == {"CNY": 20}
    asyncio.run(ledger.aclose())
    found = unknown_outcomes(tmp_path / "l")
    assert [(one.reason, one.cost, one.body["text"]) for one in found] == [("killed", 10, "a"), ("killed", 10, "b")]


def test_the_same_process_cannot_open_it_twice(tmp_path):
    async def main():
        async with Ledger.open(tmp_path / "l"):
            with pytest.raises(RefusedError):
                Ledger.open(tmp_path / "l")
        async with Ledger.open(tmp_path / "l"):
            pass

    asyncio.run(main())


def test_other_urls_under_the_same_name_need_a_confirmation(tmp_path):
    async def main():
        async with Ledger.open(tmp_path / "l") as ledger:
            ledger.register("t", ["http://b/v1", "http://a/v1"])
        async with Ledger.open(tmp_path / "l") as ledger:
            ledger.register("t", ["http://a/v1", "http://b/v1"])
            with pytest.raises(ConfigError, match="stood at http://a/v1, http://b/v1 before and now at http://c/v1"):
                ledger.register("t", ["http://c/v1"])
            ledger.register("t", ["http://c/v1"], is_confirmed=True)
        async with Ledger.open(tmp_path / "l") as ledger:
            ledger.register("t", ["http://c/v1"])

    asyncio.run(main())


def test_spending_is_summed_by_run_model_and_day_and_answers_are_exported(tmp_path):
    path = tmp_path / "l"
    bought(path, call("a"), call("b"), call("c", model="other"), run="first")
    bought(path, call("a"), call("d"), run="second", outcome=Outcome(State.UNKNOWN, cost=None))
    lines = {(one.run, one.model): one for one in spending(path)}
    assert {key: (one.num_answered, one.num_unknown, one.cost) for key, one in lines.items()} == {
        ("first", "m"): (2, 0, 14),
        ("first", "other"): (1, 0, 7),
        ("second", "m"): (0, 1, 10),
    }
    assert lines["first", "m"].prompt_tokens == 24 and lines["second", "m"].cost_of_unknown == 10
    assert export(path, tmp_path / "out.jsonl") == 3
    row = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert row["messages"] == [{"role": "user", "content": "a"}]
    assert (row["text"], row["answered_by"], row["cost"], row["temperature"]) == ("Paris", "m-0731", 7, 0.7)


@pytest.mark.parametrize("target", ["l", "pairs.jsonl", "link", "folder", "dangling"])
def test_an_export_takes_the_place_of_nothing(tmp_path, target):
    bought(tmp_path / "l", call())
    (tmp_path / "pairs.jsonl").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "l")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder").mkdir()
    before = (tmp_path / "l").read_bytes()
    with pytest.raises(ConfigError, match=f"{target}: is there already; name another file"):
        export(tmp_path / "l", tmp_path / target)
    assert ((tmp_path / "l").read_bytes(), (tmp_path / "pairs.jsonl").read_text()) == (before, "mine")
    assert export(tmp_path / "l", tmp_path / "new.jsonl") == 1


@pytest.mark.parametrize("ending", ["-journal", "-wal", "-shm", ".lock"])
def test_an_export_takes_no_name_that_belongs_to_the_ledger(tmp_path, ending):
    bought(tmp_path / "l", call())
    (tmp_path / f"l{ending}").unlink(missing_ok=True)
    with pytest.raises(ConfigError, match="is a name under which the ledger keeps a file of its own"):
        export(tmp_path / "l", tmp_path / f"l{ending}")
    assert len(spending(tmp_path / "l")) == 1


@pytest.mark.parametrize("ledger", ["typo", "other", "folder"])
def test_an_export_of_what_is_no_ledger_makes_no_file(tmp_path, ledger):
    (tmp_path / "other").write_text("no database at all" * 99)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError):
        export(tmp_path / ledger, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_an_export_that_the_disk_refuses_leaves_nothing(tmp_path):
    bought(tmp_path / "l", call())
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        export(tmp_path / "l", tmp_path / "file" / "out.jsonl")


@pytest.mark.parametrize("content", [b"no database at all, just some text" * 99, None], ids=["text", "other database"])
def test_a_file_that_is_no_ledger_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "l"
    if content is None:
        database = sqlite3.connect(path)
        database.execute("CREATE TABLE mine (a)")
        database.close()
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="must be a ledger of align"):
        Ledger.open(path)
    if content is not None:
        assert path.read_bytes() == before


def test_a_ledger_of_a_newer_version_is_refused(tmp_path):
    bought(tmp_path / "l", call())
    database = sqlite3.connect(tmp_path / "l")
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(ConfigError, match="must be of version 1, but is of 99; update align"):
        Ledger.open(tmp_path / "l")


def limit_pages(ledger: Ledger) -> None:
    """As many as there are, from now on."""
    with ledger._store._changed:
        ledger._store._writer.execute("PRAGMA max_page_count = 1")


def test_a_full_disk_reaches_every_caller_and_keeps_what_was_written(tmp_path):
    path = tmp_path / "l"

    async def main():
        async with Ledger.open(path) as ledger:
            shop = Shop(ledger)
            await shop.buy(call("first"))
            limit_pages(ledger)
            texts = [str(number) * 5000 for number in range(8)]
            return await asyncio.gather(*(shop.buy(call(text)) for text in texts), return_exceptions=True)

    errors = asyncio.run(main())
    assert len(errors) == 8 and all(isinstance(error, StorageError) for error in errors)
    assert bought(path, call("first")) == ([ANSWER], 0)


MOUNTS = """22 27 0:21 / / rw,relatime - ext4 /dev/vda rw
30 22 0:40 / /home rw,relatime shared:7 - nfs4 server:/home rw
31 30 0:41 / /home/me/my\\040disk rw,relatime - ext4 /dev/vdb rw
"""


@pytest.mark.parametrize(
    ("path", "is_refused"), [("/data/l", False), ("/home/me/l", True), ("/home/me/my disk/l", False)]
)
def test_a_network_disk_is_refused(path, is_refused):
    if is_refused:
        with pytest.raises(ConfigError, match=r"is on a network file system \(nfs4\)"):
            refuse_network_disk(Path(path), MOUNTS)
    else:
        refuse_network_disk(Path(path), MOUNTS)

"""The budget: never passed, not by calls side by side, not by a second process."""

from __future__ import annotations

import asyncio
import random

import pytest

from align.errors import BudgetError, ConfigError
from align.teachers.ledger.budget import UNITS, Budget
from align.teachers.ledger.entry import Call, Outcome, State
from align.teachers.ledger.ledger import Ledger


async def spend(ledger: Ledger, text: str, worst_case: int, outcome: Outcome, paid: list[int]) -> None:
    entry = await ledger.begin(Call("t", "m", {"text": text}), worst_case, "CNY")
    paid.append(worst_case if outcome.cost is None else outcome.cost)
    await asyncio.sleep(0)
    await ledger.settle(entry, outcome, "CNY")


@pytest.mark.parametrize("seed", range(100))
def test_sixty_four_calls_side_by_side_never_pass_the_budget(seed):
    """Without a file: the arithmetic alone, over many orders of events."""
    numbers = random.Random(seed)
    budget = Budget(1000 / UNITS)
    budget.pay_in("CNY")
    paid, num_refused = [], 0

    async def one() -> None:
        nonlocal num_refused
        worst_case = numbers.randrange(1, 60)
        try:
            await budget.reserve(worst_case, "CNY")
        except BudgetError:
            num_refused += 1
            return
        for _ in range(numbers.randrange(5)):
            await asyncio.sleep(0)
        cost = numbers.choice([0, worst_case, numbers.randrange(worst_case + 1)])
        paid.append(cost)
        budget.settle(worst_case, cost, "CNY")
        assert budget.spent["CNY"] + budget.reserved <= 1000

    async def main() -> None:
        slots = asyncio.Semaphore(64)

        async def slotted() -> None:
            async with slots:
                await one()

        await asyncio.gather(*(slotted() for _ in range(200)))

    asyncio.run(main())
    assert sum(paid) == budget.spent["CNY"] <= 1000
    assert budget.reserved == 0 and num_refused
    assert budget.spent["CNY"] > 1000 - 60, "what was refused would not have fitted"


def test_a_second_process_goes_on_from_what_the_first_has_spent(tmp_path):
    paid: list[int] = []

    async def run(limit: int) -> None:
        async with Ledger.open(tmp_path / "l", run="r", budget=Budget(limit / UNITS)) as ledger:
            ledger.budget.pay_in("CNY")
            for number in range(100):
                await spend(ledger, str(number), 10, Outcome(State.UNKNOWN, None), paid)

    for limit, total in ((95, 90), (95, 90), (125, 120)):
        with pytest.raises(BudgetError, match="the next call may cost"):
            asyncio.run(run(limit))
        assert sum(paid) == total


def test_a_call_waits_for_others_that_may_turn_out_cheaper(tmp_path):
    async def main() -> int:
        budget = Budget(100 / UNITS)
        budget.pay_in("CNY")
        await budget.reserve(60, "CNY")
        waiting = asyncio.create_task(budget.reserve(60, "CNY"))
        await asyncio.sleep(0)
        assert not waiting.done()
        budget.settle(60, 40, "CNY")
        await waiting
        return budget.spent["CNY"] + budget.reserved

    assert asyncio.run(main()) == 100


def test_two_currencies_are_refused_where_there_is_a_limit_and_amounts_are_exact():
    budget = Budget(0.0001)
    budget.pay_in("CNY")
    with pytest.raises(ConfigError, match="one teacher is paid in CNY and another in USD"):
        budget.pay_in("USD")
    assert budget.limit == UNITS // 10_000


def test_without_a_limit_nothing_is_refused():
    asyncio.run(Budget().reserve(10**15, "USD"))

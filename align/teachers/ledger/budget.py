"""Budget: what a run may spend; the worst case of every call is set aside before it is sent.

Amounts are whole billionths of a currency, so that sums are exact.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping

from align.errors import BudgetError, ConfigError

UNITS = 1_000_000_000
"""In one of a currency."""


def in_words(amount: int, currency: str) -> str:
    """For example `0.0132 CNY`."""
    return f"{amount / UNITS:.4f} {currency}".strip()


class Budget:
    """A limit, or none. Spent and set aside together never pass it.

    The limit is in the currency that the teachers are paid in; with a limit, all of them are paid in one.
    """

    def __init__(self, limit: float | None = None) -> None:
        """`limit` in whole units, 5.0 for five yuan; None: only count."""
        self.limit = None if limit is None else round(limit * UNITS)
        self.currency = ""
        """Of the limit; empty as long as no teacher costs anything."""
        self.spent: Counter[str] = Counter()
        """By currency; unknown outcomes included, at their worst case."""
        self.reserved = 0
        """Set aside, in the currency of the limit."""
        self._waiting: list[asyncio.Future[None]] = []

    def start(self, spent: Mapping[str, int]) -> None:
        """Take over what earlier processes of the run have spent."""
        self.spent.update(spent)

    def pay_in(self, currency: str) -> None:
        """A teacher is paid in this currency.

        Raises:
            ConfigError: another one is paid in another, and there is a limit.
        """
        if self.limit is not None and self.currency not in ("", currency):
            raise ConfigError(
                f"budget: must be in one currency, but one teacher is paid in {self.currency} and another in "
                f"{currency}; convert one of the two in your copy of prices.yaml"
            )
        self.currency = currency

    async def reserve(self, worst_case: int, currency: str) -> None:
        """Set a worst case aside; waits while calls under way may still turn out cheaper.

        Raises:
            BudgetError: it does not fit, even when every call under way has ended.
        """
        while self.limit is not None and worst_case and not self._fits(worst_case):
            if not self.reserved:
                raise BudgetError(
                    f"budget {in_words(self.limit, currency)} reached: {in_words(self.spent[currency], currency)} are "
                    f"spent, and the next call may cost {in_words(worst_case, currency)}. Every answer is kept; the "
                    "same command with a higher budget= goes on from there"
                )
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future
        self.reserved += worst_case

    def settle(self, worst_case: int, cost: int, currency: str) -> None:
        """Replace what was set aside by what was spent."""
        self.reserved -= worst_case
        self.spent[currency] += cost
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _fits(self, worst_case: int) -> bool:
        return self.limit is None or self.spent[self.currency] + self.reserved + worst_case <= self.limit

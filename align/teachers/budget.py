"""Budget: what a run may spend; the worst case of every call is set aside before it is sent.

Amounts are whole billionths of a currency, so that sums are exact.
"""

from __future__ import annotations

import asyncio

from align.errors import BudgetError, ConfigError

UNITS = 1_000_000_000
"""In one of a currency."""


def in_words(amount: int, currency: str) -> str:
    """For example `0.0132 CNY`."""
    return f"{amount / UNITS:.4f} {currency}".strip()


class Budget:
    """A limit in one currency, or none. Spent and set aside together never pass it."""

    def __init__(self, limit: int | None = None, currency: str = "") -> None:
        self.limit = limit
        self.currency = currency
        self.spent = 0
        """Unknown outcomes included, at their worst case."""
        self.reserved = 0
        self._waiting: list[asyncio.Future[None]] = []

    @classmethod
    def of(cls, amount: float, currency: str) -> Budget:
        """A limit in whole units of a currency, such as 5.0 CNY."""
        return cls(int(amount * UNITS), currency)

    def start(self, spent: int) -> None:
        """Take over what earlier processes of the run have spent."""
        self.spent = spent

    async def reserve(self, worst_case: int, currency: str) -> None:
        """Set a worst case aside; waits while calls under way may still turn out cheaper.

        Raises:
            BudgetError: it does not fit, even when every call under way has ended.
            ConfigError: the teacher is paid in another currency.
        """
        if self.limit is not None and currency != self.currency:
            raise ConfigError(
                f"budget: must be in the teacher's currency, which is {currency or 'not known'}, but is in "
                f"{self.currency}; see prices.yaml"
            )
        while self.limit is not None and self.spent + self.reserved + worst_case > self.limit:
            if not self.reserved:
                raise BudgetError(
                    f"budget {in_words(self.limit, currency)} reached: {in_words(self.spent, currency)} are spent, and "
                    f"the next call may cost {in_words(worst_case, currency)}. Every answer is kept; the same command "
                    "with a higher budget= goes on from there"
                )
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future
        self.reserved += worst_case

    def settle(self, worst_case: int, cost: int, currency: str) -> None:
        """Replace what was set aside by what was spent."""
        self.reserved -= worst_case
        if self.limit is None or currency == self.currency:
            self.spent += cost
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

"""Live view: what a builder shows while it works: one live view on a terminal, else a JSON line every few seconds."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter, deque
from types import TracebackType
from typing import TYPE_CHECKING, Any

from align.data.rows.pair import Dropped, PreferencePair
from align.data_builders.core.report import Outcome
from align.teachers.ledger.budget import UNITS
from align.teachers.ledger.ledger import Ledger

if TYPE_CHECKING:
    from rich.console import RenderableType
    from typing_extensions import Self  # typing has it from Python 3.11 on

EVERY_S = 5.0
"""Between two JSON lines."""
_WINDOW_S = 60.0
"""Over which the rate is taken that tells the time left."""


class Progress:
    """Rows done and dropped by reason, calls, tokens, money, time left; the first pair as soon as there is one.

    Use it as `async with`. It writes to stderr.
    """

    def __init__(self, num_rows: int, ledger: Ledger) -> None:
        from rich.console import Console
        from rich.live import Live

        self._num_rows = num_rows
        self._ledger = ledger
        self._num_done = 0
        self._dropped: Counter[str] = Counter()
        self._has_shown_pair = False
        self._recent: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._ticker: asyncio.Task[None] | None = None
        self._console = Console(stderr=True, highlight=False)
        is_live = self._console.is_terminal
        self._live = Live(get_renderable=self._view, console=self._console, refresh_per_second=4) if is_live else None

    async def __aenter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        else:
            self._ticker = asyncio.create_task(self._print_lines())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        elif self._ticker is not None:
            self._ticker.cancel()
            self._print_line()

    def show(self, outcome: Outcome) -> None:
        """Count one finished row."""
        self._num_done += 1
        if isinstance(outcome, Dropped):
            self._dropped[outcome.reason] += 1
        elif isinstance(outcome, PreferencePair) and not self._has_shown_pair:
            self._has_shown_pair = True
            self._console.print(_side_by_side(outcome, self._console.width))
        self._note_rate()

    def facts(self) -> dict[str, Any]:
        """Everything that is shown, as JSON has it."""
        totals = self._ledger.totals
        return {
            "rows_done": self._num_done,
            "rows": self._num_rows,
            "dropped": dict(self._dropped.most_common()),
            "calls_under_way": self._ledger.num_under_way,
            "calls_answered": totals.num_answered,
            "calls_from_ledger": totals.num_recorded,
            "requests_refused": totals.num_refused,
            "requests_unknown": totals.num_unknown,
            "prompt_tokens": totals.prompt_tokens,
            "completion_tokens": totals.completion_tokens,
            "spent": {name: round(spent / UNITS, 4) for name, spent in self._ledger.budget.spent.items() if spent},
            "seconds_left": self._seconds_left(),
        }

    def _note_rate(self) -> None:
        now = time.monotonic()
        if now - self._recent[-1][0] >= 1.0:
            self._recent.append((now, self._num_done))
            while now - self._recent[0][0] > _WINDOW_S:
                self._recent.popleft()

    def _seconds_left(self) -> int | None:
        """None while nothing tells it; rows whose answers were all recorded leave the window after a minute."""
        at, done = self._recent[0]
        if self._num_done == done:
            return None
        return round((self._num_rows - self._num_done) * (time.monotonic() - at) / (self._num_done - done))

    async def _print_lines(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            self._print_line()

    def _print_line(self) -> None:
        print(json.dumps({"progress": self.facts()}, ensure_ascii=False), file=sys.stderr, flush=True)

    def _view(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        facts = self.facts()
        dropped = ", ".join(f"{reason} {count}" for reason, count in facts["dropped"].items()) or "none"
        spent = ", ".join(f"{amount:.4f} {name}" for name, amount in facts["spent"].items())
        parts = [
            f"{facts['calls_under_way']} calls under way",
            f"{facts['calls_answered']} answered",
            f"{facts['calls_from_ledger']} from the ledger",
            f"{facts['requests_refused']} refused",
            f"{facts['requests_unknown']} unknown" if facts["requests_unknown"] else "",
            f"{facts['prompt_tokens']:,} + {facts['completion_tokens']:,} tokens",
            f"spent {spent}" if spent else "",
        ]
        left = "" if facts["seconds_left"] is None else f", {_in_words(facts['seconds_left'])} left"
        return Group(
            Text(f"  {facts['rows_done']}/{facts['rows']} prompts done{left}; dropped: {dropped}"),
            Text("  " + " · ".join(part for part in parts if part), style="dim"),
            ProgressBar(max(1, self._num_rows), self._num_done, width=60),
        )


def _in_words(seconds: int) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _side_by_side(pair: PreferencePair, width: int) -> RenderableType:
    from rich.columns import Columns
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    half = max(30, width // 2 - 2)
    chosen, rejected = ("\n".join(m.content for m in side) for side in (pair.chosen, pair.rejected))
    sides = [
        Panel(Text(chosen), title="chosen", border_style="green", width=half),
        Panel(Text(rejected), title="rejected", border_style="red", width=half),
    ]
    return Group(Text(f"\n  {pair.prompt[-1].content}", style="bold"), Columns(sides))

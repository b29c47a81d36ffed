"""Stopping: SIGTERM, SIGUSR1 and Ctrl-C ask for a stop, and a step is never cut in half.

Before the first step there is nothing to save, so they end the process at once; from then on the step is finished, a
checkpoint is saved, and the process ends with exit code 75 (Ctrl-C: 130). A second Ctrl-C stops at once.
"""

from __future__ import annotations

import signal
import threading
from contextlib import suppress
from types import FrameType

from align.errors import EXIT_INTERRUPTED, PreemptedError

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StopRequest:
    """Listens while it is entered."""

    code = 0
    """Exit code that was asked for: 0 none, 75 by SIGTERM or SIGUSR1, 130 by Ctrl-C."""
    can_wait = False
    """Whether a step is going on, so that a request is kept until its end."""

    def __enter__(self) -> StopRequest:
        is_main = threading.current_thread() is threading.main_thread()
        self._before = {number: signal.signal(number, self._heard) for number in _SIGNALS} if is_main else {}
        return self

    def __exit__(self, *details: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        is_interrupt = number == signal.SIGINT
        is_again = self.code == EXIT_INTERRUPTED
        # Kept in any case: a library that imports in `try … except Exception` swallows what is raised here.
        self.code = max(self.code, EXIT_INTERRUPTED if is_interrupt else PreemptedError.exit_code)
        if is_interrupt and (not self.can_wait or is_again):
            raise KeyboardInterrupt
        if not self.can_wait:
            raise PreemptedError(f"{signal.Signals(number).name} before the first step: nothing to save")
        what = "Ctrl-C" if is_interrupt else signal.Signals(number).name
        again = "; once more stops at once" if is_interrupt else ""
        with suppress(RuntimeError):  # when it comes in the middle of a print, Python forbids another
            print(f"  {what}: finishing this step and saving{again}", flush=True)

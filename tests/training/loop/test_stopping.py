"""Stopping: what a signal does before the first step, within one, and the second time."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from align.errors import EXIT_INTERRUPTED, PreemptedError
from align.training.loop.stopping import StopRequest

ASKING = [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT]


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.fixture
def stop():
    with StopRequest() as listening:
        yield listening


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_before_the_first_step_there_is_nothing_to_save(stop, number):
    with pytest.raises(PreemptedError, match=f"{signal.Signals(number).name} before the first step: nothing to save"):
        send(number)


def test_ctrl_c_before_the_first_step_ends_at_once(stop):
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)


@pytest.mark.parametrize("number", ASKING)
def test_a_request_that_a_library_swallowed_is_still_there_at_the_end_of_the_first_step(stop, number):
    with contextlib.suppress(BaseException):  # as an import in `try … except` does
        send(number)
    assert stop.code == (EXIT_INTERRUPTED if number == signal.SIGINT else PreemptedError.exit_code)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)])
def test_within_a_step_a_request_waits_for_its_end(stop, capsys, number, code):
    stop.can_wait = True
    send(number)
    assert stop.code == code
    assert "finishing this step and saving" in capsys.readouterr().out


def test_sigterm_twice_still_waits(stop):
    stop.can_wait = True
    send(signal.SIGTERM)
    send(signal.SIGTERM)
    assert stop.code == 75


def test_ctrl_c_twice_ends_at_once(stop, capsys):
    stop.can_wait = True
    send(signal.SIGINT)
    assert "once more stops at once" in capsys.readouterr().out
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)


def test_ctrl_c_after_sigterm_waits_once_more(stop):
    stop.can_wait = True
    send(signal.SIGTERM)
    send(signal.SIGINT)
    assert stop.code == EXIT_INTERRUPTED
    send(signal.SIGTERM)
    assert stop.code == EXIT_INTERRUPTED


def test_a_signal_in_the_middle_of_a_print_is_heard_all_the_same(stop):
    """A signal may arrive while stdout is being written, and Python forbids to print from within that."""

    class Busy:
        def write(self, text: str) -> None:
            raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stdout>'>")

        def flush(self) -> None: ...

    stop.can_wait = True
    with contextlib.redirect_stdout(Busy()):
        send(signal.SIGTERM)
    assert stop.code == 75


def test_the_handlers_of_before_are_put_back():
    before = [signal.getsignal(number) for number in ASKING]
    with StopRequest():
        assert [signal.getsignal(number) for number in ASKING] != before
    assert [signal.getsignal(number) for number in ASKING] == before

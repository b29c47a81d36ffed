"""Errors: the exceptions that reach a user, and the exit code of each.

A message says where, what must hold, what it is instead, and what to do. The codes are a contract of the process
(`exit.json` in the run folder repeats them, since launchers may replace what a process returns).
"""

import errno


class AlignError(Exception):
    """Base of everything that `align` raises on purpose. Exit code 1 is kept for our own bugs."""

    exit_code = 1
    is_shared = False
    """Whether every process of the run raises it alike, so that one of them prints it."""


class ConfigError(AlignError):
    """A setting, a command line or a file name is wrong."""

    exit_code = 2


class DataError(AlignError):
    """Rows cannot be used as they are."""

    exit_code = 3


class AnswerError(DataError):
    """A teacher has no answer for one call; the others go on. A builder drops the row."""

    def __init__(self, reason: str, detail: str, is_final: bool = True) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        """Short slug that dropped rows are counted by, such as `bad_request`."""
        self.detail = detail
        self.is_final = is_final
        """Whether asking again later would bring the same; else the row is not written off."""


class AuthError(AlignError):
    """The teacher's key, quota or balance does not allow a call; what was answered before is kept."""

    exit_code = 4


class BudgetError(AlignError):
    """The next call could exceed the budget; with a higher one the same command goes on from there."""

    exit_code = 5


class NumericalError(AlignError):
    """A loss, a gradient or a weight is NaN or infinite; the last checkpoint is from before."""

    exit_code = 6


class DamageFound(AlignError):
    """A comparison found the trained model damaged; its report is complete all the same."""

    exit_code = 7


class RefusedError(AlignError):
    """A check before the first step failed, so nothing was started."""

    exit_code = 8


class RankLostError(AlignError):
    """Another process of the same run is gone; the run can be repeated and goes on from its last checkpoint."""

    exit_code = 69


class UnreachableError(AlignError):
    """No teacher answers any more; what was answered before is kept, and the same command goes on from there."""

    exit_code = 69


class StorageError(AlignError):
    """The disk or the file system refused; what was written before is whole, and the run can be repeated."""

    exit_code = 74


class PreemptedError(AlignError):
    """SIGTERM or SIGUSR1 stopped the run; a checkpoint was saved and the same command goes on from there."""

    exit_code = 75


STORAGE_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""With these the disk or the file system refused, as opposed to a wrong file name."""

EXIT_OK = 0
EXIT_INTERRUPTED = 130
"""Ctrl-C. What was finished is kept; the same command goes on from there."""

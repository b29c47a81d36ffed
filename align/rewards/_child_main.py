"""Child main: what runs in the child process of a `ChildChecker`."""

from __future__ import annotations

import importlib
import json
import math
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from align.errors import ConfigError, DataError
from align.text.shorten import shorten

_MEMORY_BYTES = 4 * 1024**3
"""Address space of the child: a power tower in a completion would else take the memory of the training process."""
_GRACE_S = 10.0


def main(make_check: str, timeout_s: str) -> None:
    """Read lists of requests, one a line, and write one line a request, until the input ends.

    The parent kills a child that takes too long. The alarm below is for one whose parent is gone: it has no Python
    handler, so it also ends a child that is inside one long multiplication.
    """
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not stand among the replies
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides
    module, _, name = make_check.partition(":")
    check = getattr(importlib.import_module(module), name)()
    _limit_memory()
    print('"ready"', file=replies, flush=True)
    for line in sys.stdin.buffer:
        for request in json.loads(line):
            if hasattr(signal, "alarm"):
                signal.alarm(math.ceil(float(timeout_s) + _GRACE_S))
            print(json.dumps(_reply(check, request)), file=replies, flush=True)
        if hasattr(signal, "alarm"):
            signal.alarm(0)


def _reply(check: Callable[[Any], float | None], request: Any) -> dict[str, Any]:
    """A broad catch on purpose: what a library raises at one odd completion is told to the parent, which counts it."""
    try:
        return {"score": check(request)}
    except (ConfigError, DataError) as error:
        return {"stop": [type(error).__name__, str(error)]}
    except Exception as error:
        return {"problem": shorten(f"{type(error).__name__}: {error}", 300)}


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    wanted = _MEMORY_BYTES if most == resource.RLIM_INFINITY else min(_MEMORY_BYTES, most)
    resource.setrlimit(resource.RLIMIT_AS, (wanted, most))

"""Checks for a child process that misbehave on request."""

from __future__ import annotations

import os

from align.errors import DataError


def make_odd():
    def check(request):
        if request == "die":
            os._exit(3)
        if request == "raise":
            raise ValueError("odd")
        if request == "bad row":
            raise DataError("the row is wrong")
        if request == "print":
            print("noise that must not stand among the replies")
        if request == "eat":
            return float(len(bytearray(2**36)))
        return 0.5

    return check


def make_broken():
    raise ImportError("a library is missing")

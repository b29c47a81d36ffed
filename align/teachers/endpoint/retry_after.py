"""Retry-After: how long a server asks to be left alone (RFC 9110, 10.2.3)."""

from __future__ import annotations

from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

LONGEST_S = 600.0
"""A longer wait is not waited for: it is a quota for the day, and the run ends until then."""


def seconds_to_wait(header: str | None, now: datetime | None = None) -> float | None:
    """Seconds from a number or an HTTP date, never negative; None where it is missing or means nothing."""
    if header is None:
        return None
    text = header.strip()
    try:
        seconds = float(text)
    except ValueError:
        seconds = _until(text, now or datetime.now(timezone.utc))
    return max(0.0, seconds) if seconds < float("inf") else None


def _until(text: str, now: datetime) -> float:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return float("inf")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return (moment - now).total_seconds()

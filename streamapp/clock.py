"""The only module that reads a clock. Everything else is handed a `Clock` or a time.

Event time (`occurred_at`) decides windows; a clock decides only how long to wait and what to print.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Protocol


class Clock(Protocol):
    """Wall clock, monotonic clock and sleep, so that tests can put a virtual one in their place."""

    def now(self) -> float:
        """Seconds since the epoch. May jump; never used to decide an order."""

    def monotonic(self) -> float:
        """Seconds that never go back; the origin means nothing."""

    def sleep(self, seconds: float) -> Awaitable[None]:
        """Wait without blocking the event loop."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


SYSTEM_CLOCK = SystemClock()


#: RFC 3339 with `T` and `Z`; what else the fields may be is left to `datetime`, whose later versions take hour 24.
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\d(?:\.\d+)?Z", re.ASCII)


@lru_cache(maxsize=1024)  # the records an event leads to have its own time
def parse_rfc3339(text: str) -> datetime:
    """An instant from RFC 3339 text in UTC that ends in `Z`; `ValueError` says what is wrong with any other."""
    if not _RFC3339.fullmatch(text):
        raise ValueError(f"{text!r} is not RFC 3339 in UTC, such as 2026-01-31T12:00:00Z{_slip(text)}")
    # RFC 3339 allows a leap second; Kafka and POSIX time do not know it, so it is the second before it.
    if text[17:19] == "60":
        text = f"{text[:17]}59{text[19:]}"
    return datetime.fromisoformat(text)


def _slip(text: str) -> str:
    """What is wrong with a time that only looks otherwise: `datetime.isoformat()` writes `+00:00`, for one."""
    try:
        zone = datetime.fromisoformat(text).utcoffset()
    except (ValueError, OverflowError):
        return ""
    if zone is None:
        return ": it has no time zone. Write it in UTC, with a Z at the end"
    if zone:
        return f": it ends in {text[-6:]}. Write the same instant in UTC, with a Z at the end"
    return ": write T between date and time, hours to seconds, and Z at the end, for +00:00 as well"


def instant(found: Any) -> datetime:
    """The instant that a field says: RFC 3339 text in UTC, or an aware `datetime`; else `TypeError`, `ValueError`."""
    if isinstance(found, str):
        return parse_rfc3339(found)
    if isinstance(found, datetime):
        if found.tzinfo is None:
            raise ValueError(f"{found} has no time zone")
        return found
    raise TypeError(f"{type(found).__name__} is no time; RFC 3339 text in UTC is expected")


def format_rfc3339(seconds: float) -> str:
    """Seconds since the epoch as RFC 3339 in UTC, to the millisecond where there is a fraction."""
    moment = datetime.fromtimestamp(seconds, UTC)
    spec = "milliseconds" if moment.microsecond else "seconds"
    return moment.replace(tzinfo=None).isoformat(timespec=spec) + "Z"

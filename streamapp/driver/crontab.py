"""When a crontab is due next, at the begin and end of summer time as well: what cron does, in any time zone.

A crontab whose minute or hour begins with `*`, or that names every hour, follows the clock: it is due whenever the
clock shows a time that matches, in both of two equal hours, and not in one that the clock leaves out. Any other is due
once for each time that matches: at the first of two equal ones, and, for one left out, when the clock jumps over it.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, tzinfo
from typing import Any

from faust.utils import cron

_DAY_S = 86_400.0


def next_run(expression: str, after_s: float, zone: tzinfo | None) -> float:
    """The first time a crontab is due after another time, seconds since the epoch. `ValueError` if it never is.

    `zone`: where the clock is that it speaks of; None: UTC.
    """
    following = _next_by_clock if _follows_the_clock(expression) else _next_once
    return following(expression, after_s, UTC if zone is None else zone)


def problem(expression: Any, zone: Any) -> str | None:
    """What is wrong with a crontab, in one sentence; None: nothing."""
    if zone is not None and not isinstance(zone, tzinfo):
        return (
            f"The timezone of the crontab {expression!r} is {zone!r}. Give a tzinfo, such as ZoneInfo('Europe/Rome')."
        )
    try:
        next_run(expression, 0.0, zone)
    except (ValueError, TypeError, AttributeError, KeyError) as exc:
        said = str(exc).rstrip(".")
        return f"The crontab {expression!r} is never due: {said}. Write minute, hour, day, month and day of the week."
    return None


def _follows_the_clock(expression: str) -> bool:
    fields = expression.split()
    minutes_and_hours = fields[:2] if len(fields) > 1 else []  # one field: @hourly and the like
    hours: list[Any] = cron.croniter.expand(expression)[0][1]
    return hours == ["*"] or any(field.startswith("*") for field in minutes_and_hours)


def _next_by_clock(expression: str, after_s: float, zone: tzinfo) -> float:
    shown = after_s + _offset_s(zone, after_s)
    while True:
        due = _next_shown(expression, shown) - _offset_s(zone, after_s)
        change = _next_change(zone, after_s, due)
        if change is None:
            return due
        # The clock is set before that: go on from the time it shows then, which may be due itself.
        after_s = change
        shown = change + _offset_s(zone, change) - 1


def _next_once(expression: str, after_s: float, zone: tzinfo) -> float:
    shown = after_s + _offset_s(zone, after_s)
    while True:
        shown = _next_shown(expression, shown)
        due = _first_showing(zone, shown)
        if due > after_s:  # or it was due in the first of two equal hours, and this is the second
            return due


def _next_shown(expression: str, shown: float) -> float:
    """The next time that matches on a clock that is never set; a shown time is seconds since 1970 as it is shown."""
    return float(cron.croniter(expression, start_time=float(math.floor(shown))).get_next(float))


def _first_showing(zone: tzinfo, shown: float) -> float:
    """The first instant at which the zone's clock shows this time or a later one."""
    begin = shown - _DAY_S  # it shows an earlier one then, in any zone
    while True:
        reached = max(begin, shown - _offset_s(zone, begin))
        change = _next_change(zone, begin, reached)
        if change is None:
            return reached
        begin = change


def _next_change(zone: tzinfo, after_s: float, until_s: float) -> float | None:
    """The first whole second behind one time and up to another at which the zone's clock is set; None: it is not."""
    before = _offset_s(zone, after_s)
    low = after_s
    while low < until_s:
        high = min(low + _DAY_S, until_s)
        if _offset_s(zone, high) != before:
            return _bisected(zone, before, math.floor(low), math.ceil(high))
        low = high
    return None


def _bisected(zone: tzinfo, before: float, low: int, high: int) -> float:
    """The first second with another offset than `before`, which `low` has and `high` has not."""
    while high - low > 1:
        middle = (low + high) // 2
        if _offset_s(zone, middle) == before:
            low = middle
        else:
            high = middle
    return float(high)


def _offset_s(zone: tzinfo, moment_s: float) -> float:
    offset = datetime.fromtimestamp(moment_s, zone).utcoffset()
    return 0.0 if offset is None else offset.total_seconds()

"""In which windows an instant is, and when a record happened."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from streamapp.clock import format_rfc3339
from streamapp.errors import ConfigurationError, RecordError
from streamapp.windows.event_time import EventTime, milliseconds
from streamapp.windows.windowers import Hopping, Tumbling

MINUTE, DAY = 60_000, 86_400_000


def windows(kind: Hopping, time: int) -> list[tuple[int, int]]:
    return [tuple(placed.window) for placed in kind.place(time, lambda start, end: [])]  # type: ignore[misc]


def test_the_start_is_in_the_window_and_the_end_is_not() -> None:
    kind = Tumbling(MINUTE)
    assert windows(kind, 0) == [(0, MINUTE)]
    assert windows(kind, MINUTE - 1) == [(0, MINUTE)]
    assert windows(kind, MINUTE) == [(MINUTE, 2 * MINUTE)]


def test_an_instant_is_in_size_by_step_windows_also_in_1970() -> None:
    kind = Hopping(5 * MINUTE, MINUTE)
    assert windows(kind, 0) == [(start * MINUTE, (start + 5) * MINUTE) for start in range(-4, 1)]
    assert windows(kind, 5 * MINUTE) == [(start * MINUTE, (start + 5) * MINUTE) for start in range(1, 6)]


def test_hopping_windows_are_those_that_hold_the_instant() -> None:
    for seed in range(2000):
        random_ = random.Random(seed)
        step = random_.randint(1, 50)
        size = step + random_.choice([0, random_.randint(0, 200)])
        time = random_.choice([0, 1, step, size, random_.randint(0, 10**13)])
        expected = [(s, s + size) for s in range(time - size, time + 1) if s % step == 0 and s <= time < s + size]
        assert windows(Hopping(size, step), time) == expected, seed
        if size == step:
            assert windows(Tumbling(size), time) == expected, seed


@pytest.mark.parametrize(
    ("size", "step", "why"),
    [
        (0, 1, "at least 1 ms"),
        (60, 61, "leave gaps"),
        (100_000, 1, "Make the step larger"),
        (10**13, 10**13, "hundred"),
    ],
)
def test_windows_that_cannot_be_are_refused(size: int, step: int, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        Hopping(size, step)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.001Z", 1),
        ("1970-01-01T00:00:00.0019Z", 1),  # part of a millisecond is dropped, so that 59.9999 s is in its minute
        ("2000-02-29T12:00:00Z", 951_825_600_000),
        ("2016-12-31T23:59:60Z", 1_483_228_799_000),  # a leap second is the second before it
        ("2100-02-28T23:59:59.999Z", 4_107_542_399_999),  # 2100 is no leap year
        ("2100-03-01T00:00:00Z", 4_107_542_400_000),
    ],
)
def test_event_times_are_exact_milliseconds(text: str, time: int) -> None:
    assert EventTime("occurred_at").of({"occurred_at": text}) == time
    assert EventTime("at").of(SimpleNamespace(at=text)) == time


@pytest.mark.parametrize("year", [1970, 1972, 2000, 2016, 2024, 2038, 2100])
def test_days_are_windows_across_the_ends_of_years_and_leap_days(year: int) -> None:
    day = datetime(year, 1, 1, tzinfo=UTC)
    while day.year == year:
        ((start, end),) = windows(Tumbling(DAY), milliseconds(day + timedelta(hours=23, minutes=59)))
        assert format_rfc3339(start / 1000) == f"{day:%Y-%m-%dT00:00:00Z}"
        day += timedelta(days=1)
        assert format_rfc3339(end / 1000) == f"{day:%Y-%m-%dT00:00:00Z}"


def test_the_time_zone_of_a_datetime_counts() -> None:
    east = timezone(timedelta(hours=2))
    assert milliseconds(datetime(1970, 1, 1, 2, tzinfo=east)) == 0


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({}, "InvalidRecord"),
        ({"at": None}, "InvalidRecord"),
        ({"at": 5}, "InvalidRecord"),
        ({"at": True}, "InvalidRecord"),
        ({"at": "yesterday"}, "InvalidRecord"),
        ({"at": "2026-02-30T00:00:00Z"}, "InvalidRecord"),
        ({"at": "2026-01-01T00:00:00+01:00"}, "InvalidRecord"),
        ({"at": datetime(2026, 1, 1)}, "InvalidRecord"),
        ({"at": "1969-12-31T23:59:59.999Z"}, "BeforeEpoch"),
        ({"at": "0001-01-01T00:00:00Z"}, "BeforeEpoch"),
    ],
)
def test_a_record_without_a_time_windows_can_use_is_a_bad_record(value: Any, kind: str) -> None:
    with pytest.raises(RecordError) as raised:
        EventTime("at").of(value)
    assert raised.value.kind == kind


def test_an_hour_ahead_of_the_append_time_is_allowed_and_no_more() -> None:
    time = EventTime("at")
    time.check_ahead(3_600_000, 0)
    with pytest.raises(RecordError, match=r"3,600 s are allowed") as raised:
        time.check_ahead(3_600_001, 0)
    assert raised.value.kind == "TooFarAhead"

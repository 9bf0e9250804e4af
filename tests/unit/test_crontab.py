"""Crontabs at the begin and end of summer time: in order, none left out, a daily one once a day."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise, takewhile
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamapp.driver.crontab import next_run, problem
from streamapp.errors import ConfigurationError
from streamapp.testing import Bench

#: Hours that are doubled and left out: at night, at midnight, half an hour, for Ramadan, in the south, none.
ZONES = [
    "America/New_York",
    "Europe/Berlin",
    "America/Havana",
    "America/Santiago",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Pacific/Chatham",
    "Africa/Cairo",
    "Asia/Kolkata",
    "UTC",
]
#: Fields of a crontab, and what they match.
MINUTES = {
    "0": {0},
    "30": {30},
    "59": {59},
    "15,45": {15, 45},
    "0-10/5": {0, 5, 10},
    "*": set(range(60)),
    "*/15": {0, 15, 30, 45},
    "*/30": {0, 30},
}
HOURS = {
    "*": set(range(24)),
    "0-23": set(range(24)),
    "0": {0},
    "1": {1},
    "2": {2},
    "3": {3},
    "23": {23},
    "0,12": {0, 12},
    "1-3": {1, 2, 3},
    "*/2": set(range(0, 24, 2)),
}
DAYS: dict[str, Callable[[datetime], bool]] = {
    "* * *": lambda local: True,
    "* * 0": lambda local: local.isoweekday() == 7,
    "1 * *": lambda local: local.day == 1,
    "* 3,4,10,11 *": lambda local: local.month in (3, 4, 10, 11),
}
#: Every change of a clock in these years.
BEGIN, END = datetime(2023, 1, 1, tzinfo=UTC).timestamp(), datetime(2028, 1, 1, tzinfo=UTC).timestamp()


def changes(zone: str) -> list[float]:
    offset = lambda moment: datetime.fromtimestamp(moment, ZoneInfo(zone)).utcoffset()  # noqa: E731
    steps = range(int(BEGIN), int(END), 1800)
    return [float(later) for before, later in pairwise(steps) if offset(before) != offset(later)]


CHANGES = {zone: changes(zone) or [BEGIN] for zone in ZONES}


def runs(expression: str, zone: str, after: float, until: float) -> list[float]:
    def all_of_them() -> Iterator[float]:
        moment = after
        while True:
            moment = next_run(expression, moment, ZoneInfo(zone))
            yield moment

    return list(takewhile(lambda moment: moment <= until, all_of_them()))


def shown(moment: float, zone: str) -> str:
    return datetime.fromtimestamp(moment, ZoneInfo(zone)).isoformat()


def matching(minute: str, hour: str, days: str, zone: str, after: float, until: float) -> list[tuple[float, datetime]]:
    """Every minute whose time on the clock matches: the model, which looks at each of them."""
    found = []
    for moment in range((int(after) // 60 + 1) * 60, int(until) + 1, 60):
        local = datetime.fromtimestamp(moment, ZoneInfo(zone)).replace(tzinfo=None)
        if local.minute in MINUTES[minute] and local.hour in HOURS[hour] and DAYS[days](local):
            found.append((float(moment), local))
    return found


def first_of_each(found: list[tuple[float, datetime]]) -> list[float]:
    seen: set[datetime] = set()
    return [moment for moment, local in found if not (local in seen or seen.add(local))]


def test_the_night_of_the_issue() -> None:
    after = datetime.fromisoformat("2026-11-01T01:30:00-04:00").timestamp()
    due = next_run("30 1 * * *", after, ZoneInfo("America/New_York"))
    assert shown(due, "America/New_York") == "2026-11-02T01:30:00-05:00"


@pytest.mark.parametrize(
    ("expression", "after", "due"),
    [
        ("30 1 * * *", "2026-10-31T12:00-04:00", ["11-01T01:30:00-04:00", "11-02T01:30:00-05:00"]),
        (
            "0 * * * *",
            "2026-11-01T00:30-04:00",
            ["11-01T01:00:00-04:00", "11-01T01:00:00-05:00", "11-01T02:00:00-05:00"],
        ),
        (
            "*/30 1 * * *",
            "2026-11-01T01:15-04:00",
            ["11-01T01:30:00-04:00", "11-01T01:00:00-05:00", "11-01T01:30:00-05:00"],
        ),
        ("30 2 * * *", "2026-03-07T12:00-05:00", ["03-08T03:00:00-04:00", "03-09T02:30:00-04:00"]),
        ("0,30 2 * * *", "2026-03-07T12:00-05:00", ["03-08T03:00:00-04:00", "03-09T02:00:00-04:00"]),
        ("*/30 2 * * *", "2026-03-07T12:00-05:00", ["03-09T02:00:00-04:00", "03-09T02:30:00-04:00"]),
        ("@hourly", "2026-03-08T01:30-05:00", ["03-08T03:00:00-04:00", "03-08T04:00:00-04:00"]),
        ("0 0 29 2 *", "2026-03-08T01:30-05:00", ["02-29T00:00:00-05:00"]),
    ],
)
def test_what_cron_does(expression: str, after: str, due: list[str]) -> None:
    moment = datetime.fromisoformat(after).timestamp()
    for expected in due:
        moment = next_run(expression, moment, ZoneInfo("America/New_York"))
        assert shown(moment, "America/New_York").endswith(f"-{expected}")


@settings(deadline=None, derandomize=True, max_examples=150)
@given(
    zone=st.sampled_from(ZONES),
    minute=st.sampled_from(sorted(MINUTES)),
    hour=st.sampled_from(sorted(HOURS)),
    days=st.sampled_from(sorted(DAYS)),
    which=st.integers(0, 99),
    before=st.floats(0, 50_000),
)
def test_no_minute_that_matches_is_left_out_or_done_twice(
    zone: str, minute: str, hour: str, days: str, which: int, before: float
) -> None:
    """Around each change of each zone's clock, against a look at every minute."""
    expression = f"{minute} {hour} {days}"
    change = CHANGES[zone][which % len(CHANGES[zone])]
    after, until = change - before, change + 90_000
    found = runs(expression, zone, after, until)
    assert all(earlier < later for earlier, later in pairwise([after, *found]))
    model = matching(minute, hour, days, zone, after - 86_400, until)
    if hour in ("*", "0-23", "*/2") or minute.startswith("*"):  # it follows the clock
        assert found == [moment for moment, _ in model if moment > after]
    else:
        extra = set(found) - set(first_of_each(model))
        assert set(found) - extra == {moment for moment in first_of_each(model) if moment > after}
        assert extra <= set(CHANGES[zone])  # at the end of what the clock left out


@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    zone=st.sampled_from(ZONES),
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
    which=st.integers(0, 99),
    jitter=st.floats(0, 1),
)
def test_a_daily_job_runs_once_a_day(zone: str, minute: int, hour: int, which: int, jitter: float) -> None:
    change = CHANGES[zone][which % len(CHANGES[zone])]
    found = runs(f"{minute} {hour} * * *", zone, change - 3 * 86_400 + jitter, change + 3 * 86_400)
    days = [datetime.fromtimestamp(moment, ZoneInfo(zone)).date() for moment in found]
    assert days == [days[0] + timedelta(number) for number in range(len(days))]
    assert len(days) in (5, 6, 7)


def test_a_zone_that_leaves_out_a_day_does_its_jobs_when_the_clock_is_set() -> None:
    begin = datetime(2011, 12, 28, 12, tzinfo=UTC).timestamp()
    days = [
        shown(moment, "Pacific/Apia")[:13] for moment in runs("0 12 * * *", "Pacific/Apia", begin, begin + 4 * 86_400)
    ]
    assert days == ["2011-12-28T12", "2011-12-29T12", "2011-12-31T00", "2011-12-31T12", "2012-01-01T12"]


def test_without_a_zone_it_is_utc() -> None:
    assert next_run("0 0 * * *", 1.5, None) == 86_400.0


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("nonsense", "is never due"),
        ("0 0 31 2 *", "is never due"),
        ("61 * * * *", "is never due"),
        (None, "is never due"),
    ],
)
def test_a_crontab_that_is_none_is_said(expression: str, said: str) -> None:
    assert said in (problem(expression, None) or "")


def test_a_timezone_that_is_none_is_said() -> None:
    assert "ZoneInfo('Europe/Rome')" in (problem("* * * * *", "Europe/Rome") or "")
    assert problem("* * * * *", ZoneInfo("Europe/Rome")) is None


APP = """
from zoneinfo import ZoneInfo
from streamapp import App
app = App("clocks")
ticks = app.topic("tick")

@app.agent(app.topic("in"))
async def nothing(stream):
    async for _ in stream: pass

@app.crontab({expression!r}, timezone=ZoneInfo("America/New_York"))
async def tick():
    await ticks.send(key="tick", value="tick")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    (tmp_path / "clocks.py").write_text(APP.format(expression=request.param))
    monkeypatch.syspath_prepend(tmp_path)
    return "clocks"


@pytest.mark.parametrize("module", ["0 0 31 2 *"], indirect=True)
def test_a_worker_refuses_one_that_is_never_due(module: str) -> None:
    with pytest.raises(ConfigurationError, match="is never due"), Bench(module) as bench:
        bench.advance(1)


@pytest.mark.parametrize("module", ["0 0 1 1 * 0 1971"], indirect=True)
def test_a_worker_outlives_one_whose_last_year_is_over(module: str) -> None:
    with Bench(module) as bench:
        bench.advance(3600)
        assert bench.outputs("tick") == []

"""When a commit is due."""

from __future__ import annotations

import math

import pytest

from streamapp.engine.commit_schedule import CommitSchedule


class Watch:
    """A monotonic clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def paced(watch: Watch, events_max: int | None = None, bytes_max: int = 1000) -> CommitSchedule:
    pace = CommitSchedule(watch, 0.1, events_max, bytes_max)
    pace.begin()
    return pace


def units_until_due(schedule: CommitSchedule, byte_count: int = 0, most: int = 1000) -> int:
    return next(number for number in range(1, most) if schedule.is_due(byte_count))


def test_the_interval_is_noticed_within_a_few_units_of_its_end() -> None:
    watch = Watch()
    pace = paced(watch)
    assert not any(pace.is_due(0) for _ in range(200))
    watch.now = 0.1
    assert units_until_due(pace) <= 32


def test_it_says_how_soon_a_commit_is_due() -> None:
    watch = Watch()
    pace = paced(watch)
    watch.now = 0.07
    assert pace.due_in_s() == pytest.approx(0.03)
    watch.now = 0.12
    assert pace.due_in_s() == pytest.approx(-0.02)
    pace.stop()
    assert pace.due_in_s() == math.inf


def test_without_work_no_interval_is_running() -> None:
    pace = paced(Watch())
    assert pace.running
    pace.stop()
    assert not pace.running


def test_under_steady_work_commits_begin_an_interval_apart_however_long_they_take() -> None:
    watch = Watch()
    pace = paced(watch)
    watch.now = 0.1
    pace.stop()
    watch.now = 0.16  # the commit took so long
    assert pace.begin() == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("began", "next_due"),
    [(0.1, 0.2), (0.1009, 0.2), (0.13, 0.23), (0.04, 0.14)],
    ids=["on time", "a timer rang late", "it had to wait", "it was full"],
)
def test_what_a_timer_rings_late_is_not_added_to_the_next_interval(began: float, next_due: float) -> None:
    watch = Watch()
    pace = paced(watch)
    watch.now = began
    pace.stop()
    watch.now = began + 0.01
    assert pace.begin() == pytest.approx(next_due)


def test_after_a_pause_the_interval_begins_with_the_work() -> None:
    watch = Watch()
    pace = paced(watch)
    pace.stop()
    watch.now = 5.0
    assert pace.begin() == pytest.approx(5.1)


def test_enough_events_or_bytes_are_due_at_once() -> None:
    assert units_until_due(paced(Watch(), events_max=7)) == 7
    pace = paced(Watch())
    assert not pace.is_due(999)
    assert pace.is_due(1000)


def test_a_reset_forgets_what_had_finished() -> None:
    pace = paced(Watch(), events_max=3)
    pace.is_due(0)
    pace.reset()
    assert (pace.finished, units_until_due(pace)) == (0, 3)

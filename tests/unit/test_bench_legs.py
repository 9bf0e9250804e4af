"""What a sender sends and a reader keeps: which records are due when, and which legs count."""

from __future__ import annotations

import pytest

from bench import sender
from bench.legs import Legs
from bench.sender import Ahead, Rate

SECOND = 1_000_000_000


class Committed:
    """A group's progress that is told."""

    def __init__(self, total: int) -> None:
        self.count = total

    def total(self) -> int:
        return self.count


def leg(due_ns: int, number: int = 0, kind: str = "t") -> bytes:
    return b'{"event_id":"%b%019d-%d","account":"a1","delta":-5}' % (kind.encode(), due_ns, number)


def test_at_a_rate_a_record_is_due_when_it_should_have_been_sent() -> None:
    pace = Rate(1000.0)
    assert pace.count(0, 0) == 0
    # Half a second without a turn: all of its records are due, each at its own time.
    assert pace.count(SECOND // 2, 0) == 500
    assert pace.due_ns(250, SECOND // 2) == SECOND // 4


def test_ahead_is_ahead_of_what_was_committed_since_and_never_much_at_once() -> None:
    progress = Committed(100_000)
    pace = Ahead(progress)  # type: ignore[arg-type]
    sent, now = 0, SECOND
    while (more := pace.count(now, sent)) > sent:
        assert more - sent <= Ahead.AT_ONCE
        sent, now = more, now + 5_000_000
    assert sent == Ahead.RECORDS
    progress.count += 300
    assert pace.count(now + SECOND, sent) == sent + 300
    assert pace.due_ns(sent, now) == now


def test_legs_of_the_warm_up_and_of_other_times_do_not_count() -> None:
    legs = Legs(10 * SECOND, 20 * SECOND)
    legs.take([leg(9 * SECOND), leg(10 * SECOND), leg(10 * SECOND, kind="w")], 12 * SECOND)
    legs.take([leg(19 * SECOND), b"short", b""], 25 * SECOND)
    assert legs.latencies() == [2 * SECOND, 6 * SECOND]
    assert legs.arrived() == 2
    assert legs.count == 6


@pytest.mark.parametrize("words", [[], ["fast"], ["ahead", "group"], ["ahead", "group", "four"]])
def test_a_sender_without_a_pace_says_how_it_is_used(words: list[str]) -> None:
    with pytest.raises(SystemExit, match="ahead GROUP PARTITIONS"):
        sender.main("nowhere:1", "topic", *words)

"""Whose clock an inbox and windows go by: never a sender's, and a topic with senders' stamps is declared or refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamapp.driver import stamps
from streamapp.errors import ConfigurationError
from streamapp.testing import Bench
from streamapp.testing.clock import EPOCH_S

TOPICS = ("visit", "note", "batch")
NOW_MS = int(EPOCH_S * 1000)
ODD = [-2, -1, 0, 1, 2**31, 2**32 * 1000, 2**43, 2**62, 2**63 - 1, NOW_MS - 40 * 86_400_000, NOW_MS + 400 * 86_400_000]


def bench_of(*, append_time: bool = False, partitions: int = 1, **settings: object) -> Bench:
    bench = Bench("stamped_app", partitions=partitions, **settings)
    for topic in TOPICS:
        bench.broker.create_topic(topic, partitions, append_time=append_time)
    return bench


@pytest.fixture
def bench() -> Iterator[Bench]:
    with bench_of(partitions=1) as bench:
        yield bench


@pytest.mark.parametrize("stamp", ODD)
def test_no_stamp_makes_marks_forget_or_raises(bench: Bench, stamp: int) -> None:
    bench.feed("note", {"id": "first"}, key="k")
    bench.feed("note", {"id": "second"}, key="k", stamp_ms=stamp)
    bench.settle()
    for again in (stamp, None):
        bench.restart(empty=True)
        bench.feed("note", {"id": "first"}, {"id": "second"}, key="k", stamp_ms=again)
        assert bench.table("counted") == {"first": 1, "second": 1}
    assert not bench.dead_letters("note")
    assert bench.count("duplicates")


@pytest.mark.parametrize("stamp", ODD)
def test_windows_close_by_event_time_whatever_the_stamp(bench: Bench, stamp: int) -> None:
    now = bench.now
    bench.feed("visit", {"visit_id": "a", "page": "p", "occurred_at": now}, stamp_ms=stamp)
    bench.feed("visit", {"visit_id": "b", "page": "p", "occurred_at": "2200-01-01T00:00:00Z"}, stamp_ms=stamp)
    (letter,) = bench.dead_letters("visit")
    assert letter.kind == "TooFarAhead"
    (window,) = bench.table("by_minute")["p"]
    assert (window.value, window.final) == ({"count": 1}, False)


def test_marks_age_by_when_a_record_came() -> None:
    with bench_of(partitions=1, inbox_retention=60) as bench:
        bench.feed("note", {"id": "a"}, key="k", stamp_ms=0)
        bench.settle()
        bench.advance(50)
        bench.feed("note", {"id": "a"}, key="k", stamp_ms=2**62)
        assert bench.table("counted") == {"a": 1}
        bench.advance(20)
        bench.feed("note", {"id": "a"}, key="k", stamp_ms=0)
        assert bench.table("counted") == {"a": 2}


def test_a_topic_with_senders_stamps_is_refused_unless_it_is_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAMPS", "append")
    with bench_of() as bench, pytest.raises(ConfigurationError) as caught:
        bench.settle()
    text = str(caught.value)
    assert len(caught.value.problems) == 3
    assert "an inbox and windows" in text
    for topic in TOPICS:
        assert f"--entity-name {topic} --add-config message.timestamp.type=LogAppendTime" in text
    with bench_of(append_time=True) as bench:
        bench.feed("note", {"id": "a"}, key="k")
        assert bench.table("counted") == {"a": 1}


def test_a_changelog_of_marks_with_workers_stamps_is_refused() -> None:
    with bench_of(append_time=True) as bench:
        bench.broker.create_topic("stamped-inbox-changelog", 1, append_time=False)
        with pytest.raises(ConfigurationError, match="stamped-inbox-changelog has its senders' stamps"):
            bench.settle()


def test_a_topic_that_gets_senders_stamps_under_a_worker_forgets_nothing() -> None:
    with bench_of(append_time=True) as bench:
        bench.feed("note", {"id": "a"}, key="k")
        bench.settle()
        topic = bench.broker.topics["note"]._replace(append_time=False)
        bench.broker.topics["note"] = topic
        for partition, log in bench.broker.logs.items():
            if partition.topic == "note":
                log.topic = topic
        bench.feed("note", {"id": "b"}, {"id": "a"}, key="k", stamp_ms=2**62)
        assert bench.table("counted") == {"a": 1, "b": 1}


def test_timestamps_are_the_appends_or_the_senders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAMPS", "mine")
    with Bench("stamped_app") as bench, pytest.raises(ConfigurationError, match='"append" or "sender"'):
        bench.settle()


NAMES = st.sets(st.sampled_from(["a", "b", "c", "d"]))


@given(NAMES, NAMES, NAMES, NAMES, NAMES)
def test_what_is_refused_is_what_would_go_by_a_senders_clock(
    unstamped: set[str], inboxes: set[str], windows: set[str], changelogs: set[str], declared: set[str]
) -> None:
    found = stamps.problems(
        sorted(unstamped), inboxes=inboxes, windows=windows, changelogs=changelogs, declared=declared
    )
    wanted = unstamped & (changelogs | ((inboxes | windows) - declared))
    assert [problem.split()[0] for problem in found] == sorted(wanted)


@pytest.mark.parametrize("topic", ["note", "batch"])
def test_a_record_without_a_key_is_a_dead_letter_where_it_could_lie_elsewhere(topic: str) -> None:
    with bench_of(partitions=2, append_time=True) as bench:
        for partition in (0, 1):
            bench.feed(topic, {"id": "p"}, partition=partition)
        letters = bench.dead_letters(topic)
        assert [letter.kind for letter in letters] == ["NoKey", "NoKey"]
        assert "Send it with a key" in letters[0].reason
        assert bench.table("counted") == {}
        bench.feed(topic, {"id": "p"}, {"id": "p"}, key="p")
        assert bench.table("counted") == {"p": 1}
    with bench_of(partitions=1, append_time=True) as bench:
        bench.feed(topic, {"id": "p"}, {"id": "p"})
        assert bench.table("counted") == {"p": 1}
        assert not bench.dead_letters(topic)

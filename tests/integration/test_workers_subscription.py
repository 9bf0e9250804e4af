"""A static worker that comes back to its seat with another subscription: it gets what it subscribes, and no more."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from service import BOUND_S, Service, Worker, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]

#: An agent for each topic the environment names.
_APP = """\
import os
from streamapp.app import App, use

app = use(App(autodiscover=False))
for topic in os.environ["TEST_TOPICS"].split(","):
    @app.agent(app.topic(topic, value_type=int), name=f"agent-{topic[-1]}")
    async def agent(stream):
        async for _ in stream:
            pass
"""
#: Longer than any restart here takes, so that the seat is still there.
SESSION_S = 30


@pytest.fixture
def service(kafka: Any, topic_prefix: str, tmp_path: Path) -> Iterator[Service]:
    with Service(kafka.bootstrap, topic_prefix, tmp_path) as service:
        tmp_path.joinpath("own.py").write_text(_APP)
        for letter in "abc":
            service.create(f"{topic_prefix}-{letter}", **{"message.timestamp.type": "LogAppendTime"})
        yield service


def started(
    service: Service,
    instance: str,
    letters: str,
    *options: str,
    state: str | None = None,
    session_s: int = SESSION_S,
    environment: Mapping[str, str] | None = None,
) -> Worker:
    more = {"TEST_TOPICS": ",".join(f"{service.id}-{letter}" for letter in letters), **(environment or {})}
    wrap = ("env", *(f"{name}={value}" for name, value in more.items()))
    return service.worker(instance, *options, state=state or instance, wrap=wrap, SESSION_TIMEOUT=session_s)


def pair(service: Service, letters: str) -> tuple[Worker, Worker]:
    """Two workers that share the topics."""
    workers = started(service, "one", letters), started(service, "two", letters)
    until_shared(service, letters, *workers)
    return workers


def until_shared(service: Service, letters: str, *workers: Worker) -> None:
    """Until each of two has half of the partitions, whichever these are: the first had all for a moment."""
    half = re.compile(rf"{service.id}-{letters[-1]}\[(?!0-3)\d[-,]\d\], ready")
    wait_until(
        lambda: all(half.search(worker.said) for worker in workers), lambda: "".join(worker.said for worker in workers)
    )


def owned(service: Service, letter: str) -> str:
    return f"{service.id}-{letter}[0-3]"


def feed_and_await(service: Service, letter: str) -> None:
    topic = f"{service.id}-{letter}"
    before = service.committed(topic)
    service.send(topic, [b"1", b"2", b"3"])
    service.until_committed(before + 3, topic)


def test_a_topic_that_came_is_consumed_at_once(service: Service) -> None:
    first = started(service, "one", "a")
    first.until("ready after")
    assert first.stop() == 0, first.said
    second = started(service, "one", "ab")
    second.until(f"owns {owned(service, 'a')}, {owned(service, 'b')}, ready after")
    assert "asks for another" in second.said
    feed_and_await(service, "a")
    feed_and_await(service, "b")
    assert second.stop() == 0, second.said


def test_a_topic_that_went_is_given_up(service: Service) -> None:
    first = started(service, "one", "ab")
    first.until("ready after")
    assert first.stop() == 0, first.said
    second = started(service, "one", "bc")
    second.until(f"owns {owned(service, 'b')}, {owned(service, 'c')}, ready after")
    feed_and_await(service, "c")
    assert second.stop() == 0, second.said


def test_the_same_subscription_rebalances_nobody(service: Service) -> None:
    first, other = pair(service, "ab")
    generations = other.said.count("ready after")
    assert first.stop() == 0, first.said
    again = started(service, "one", "ab")
    again.until("ready after")
    assert "asks for another" not in again.said
    assert other.said.count("ready after") == generations, other.said


def test_a_worker_that_leaves_gives_its_partitions_to_the_others_at_once(service: Service) -> None:
    """Long before its session ends, which is what the others of `test_the_same_subscription...` would wait for."""
    long_s = int(BOUND_S) * 3
    stays, leaves = (started(service, name, "a", "--leave", session_s=long_s) for name in ("stays", "leaves"))
    until_shared(service, "a", stays, leaves)
    alone = stays.said.count(f"owns {owned(service, 'a')}, ready after")
    feed_and_await(service, "a")
    assert leaves.stop() == 0, leaves.said
    assert "left the group as leaves" in leaves.said
    stays.until(f"owns {owned(service, 'a')}, ready after", alone + 1)
    feed_and_await(service, "a")


def test_workers_are_moved_to_another_subscription_one_by_one(service: Service) -> None:
    """A rolling upgrade: what anybody subscribes is consumed between its steps and after them."""
    first, second = pair(service, "ab")
    assert first.stop() == 0, first.said
    first = started(service, "one", "bc")
    first.until("-c[0-3], ready after")
    for letter in "abc":
        feed_and_await(service, letter)
    assert second.stop() == 0, second.said
    second = started(service, "two", "bc")
    second.until("-c[")
    for letter in "bc":
        feed_and_await(service, letter)
    assert first.exit_code is None, first.said
    assert first.stop() == 0, first.said
    assert second.stop() == 0, second.said


def test_a_twin_takes_the_seat_before_its_holder_has_asked_for_another_assignment(
    service: Service, tmp_path: Path
) -> None:
    """The older one has no assignment by which a commit would show it, and must not take the seat back."""
    before = started(service, "one", "a")
    before.until("ready after")
    assert before.stop() == 0, before.said
    waits = {"point": "another assignment", "action": "hold", "until": str(tmp_path / "taken"), "seconds": BOUND_S}
    plan = {"FAULT_PLAN_ALLOWED": "1", "FAULT_PLAN": json.dumps([waits]), "FAULT_PLAN_HITS": str(tmp_path / "hits")}
    older = started(service, "one", "ab", state="older", environment=plan)
    older.until("asks for another")
    newer = started(service, "one", "ab", state="newer")
    newer.until(f"owns {owned(service, 'a')}, {owned(service, 'b')}, ready after")
    (tmp_path / "taken").touch()
    assert older.wait() == 1, older.said
    assert "error: Somebody newer holds" in older.said
    for letter in "ab":
        feed_and_await(service, letter)
    assert newer.said.count("ready after") == 1, f"it was disturbed: {newer.said}"
    assert newer.stop() == 0, newer.said


def test_a_worker_that_cannot_be_a_member_ends_and_says_why(service: Service) -> None:
    options = {"bootstrap.servers": service.bootstrap, "group.id": service.id}
    stranger = Consumer({**options, "partition.assignment.strategy": "range"})
    try:
        stranger.subscribe([f"{service.id}-a"])
        wait_until(lambda: stranger.poll(0.1) is None and bool(stranger.assignment()), lambda: "no assignment")
        worker = started(service, "one", "a")
        assert worker.wait() == 1, worker.said
    finally:
        stranger.close()
    assert f"error: Group {service.id} has members of another kind" in worker.said
    assert "InconsistentGroupProtocol" in worker.said
    assert "Committed work is safe" in worker.said

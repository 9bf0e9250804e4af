"""What the auditor does when a broker that has just come back refuses for a moment.

The client's answers are scripted: a real broker gives these codes only by luck.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError, KafkaException, TopicPartition

from streamapp.audit.broker import Broker, CannotTell

PASSING = KafkaError.UNKNOWN_LEADER_EPOCH


class Message:
    """A record, or what a partition refused."""

    def __init__(self, number: int, offset: int = 0, error: int | None = None) -> None:
        self.number, self.at, self.refused = number, offset, error

    def error(self) -> KafkaError | None:
        return None if self.refused is None else KafkaError(self.refused)

    topic = lambda self: "transfer"  # noqa: E731
    partition = lambda self: self.number  # noqa: E731
    offset = lambda self: self.at  # noqa: E731
    timestamp = lambda self: (TIMESTAMP_LOG_APPEND_TIME, 1)  # noqa: E731
    key = value = headers = lambda self: None


class Client:
    """Gives what is scripted, one answer a call, and keeps what it was assigned."""

    def __init__(self, *answers: list[Message]) -> None:
        self.answers = list(answers)
        self.assigned: list[dict[int, int]] = []

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned.append({at.partition: at.offset for at in partitions})

    def consume(self, *_: Any, **__: Any) -> list[Message]:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def list_topics(self, *_: Any, **__: Any) -> None:
        """Known."""

    def unassign(self) -> None:
        """Over."""


@pytest.fixture
def broker() -> Any:
    made = Broker({"bootstrap.servers": "127.0.0.1:1"}, timeout_s=0.5)
    consumer = made._consumer
    yield made
    consumer.close()


def refusing(code: int, times: int) -> Callable[[], str]:
    left = [times]

    def question() -> str:
        if left[0]:
            left[0] -= 1
            raise KafkaException(KafkaError(code))
        return "answer"

    return question


def test_what_passes_is_asked_again(broker: Broker) -> None:
    assert broker._ask(refusing(PASSING, 2)) == "answer"


def test_what_does_not_pass_in_time_is_a_reason(broker: Broker) -> None:
    began = time.monotonic()
    with pytest.raises(CannotTell, match=r"refused for 0.5 s: .*epoch"):
        broker._ask(refusing(PASSING, 1000))
    assert time.monotonic() - began < 30


def test_another_refusal_is_a_reason_at_once(broker: Broker) -> None:
    with pytest.raises(CannotTell, match="refused: "):
        broker._ask(refusing(KafkaError.TOPIC_AUTHORIZATION_FAILED, 1))


def test_a_partition_that_refuses_for_a_moment_is_read_on_from_where_it_came_to(broker: Broker) -> None:
    client = Client(
        [Message(0, 0), Message(0, 1), Message(1, 0)],
        [Message(0, error=PASSING)],
        [Message(0, 2), Message(1, 1)],
    )
    broker._consumer = client
    records = list(broker.read("transfer", {0: (0, 3), 1: (0, 2)}))
    assert sorted((record.partition, record.offset) for record in records) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    assert client.assigned == [{0: 0, 1: 0}, {0: 2, 1: 1}]


def test_a_partition_that_goes_on_refusing_is_a_reason(broker: Broker) -> None:
    broker._consumer = Client([Message(0, error=PASSING)])
    with pytest.raises(CannotTell, match=r"transfer\[0\] cannot be read: .*epoch"):
        list(broker.read("transfer", {0: (0, 3)}))

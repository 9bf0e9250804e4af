"""The committed offsets of a group, asked of Kafka from outside.

By a consumer that joins nothing: `AdminClient.list_consumer_group_offsets` would need no group of its own, but it ends
the process (SIGSEGV, librdkafka issue 5040) where the group's coordinator moves or is away, as after a broker that
stood still. A test run then lost a process without a word.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

_ANSWER_S = 60.0
#: What a coordinator answers that has just moved, or whose broker has just come back.
_PASSING = {
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
}


class GroupOffsets:
    """Of one group. Close it."""

    def __init__(self, bootstrap: str, group: str) -> None:
        self.group = group
        # Read uncommitted: an open transaction is not waited for, what it would commit does not count.
        options = {"isolation.level": "read_uncommitted", "enable.auto.commit": False}
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "log_level": 0, **options})

    def committed(self, topics: Iterable[str], partitions: int) -> dict[tuple[str, int], int]:
        """By topic and partition; 0 where there is none yet."""
        places = [TopicPartition(topic, number) for topic in topics for number in range(partitions)]
        give_up = time.monotonic() + _ANSWER_S
        while True:
            try:
                found = self._consumer.committed(places, timeout=_ANSWER_S)
                if wrong := [at for at in found if at.error is not None]:
                    raise KafkaException(wrong[0].error)
                return {(at.topic, at.partition): max(0, at.offset) for at in found}
            except KafkaException as exc:
                if exc.args[0].code() not in _PASSING or time.monotonic() > give_up:
                    raise
            time.sleep(0.05)

    def close(self) -> None:
        """Give its connection back."""
        self._consumer.close()


def commit_beginning(bootstrap: str, group: str, topics: Iterable[str], partitions: int) -> None:
    """Commit offset 0 for a group without members, as one that has read nothing yet."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False})
    try:
        places = [TopicPartition(topic, number, 0) for topic in topics for number in range(partitions)]
        consumer.commit(offsets=places, asynchronous=False)
    finally:
        consumer.close()

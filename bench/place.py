"""Where a run takes place: one broker for all programs, topics made and removed, a group's progress."""

from __future__ import annotations

import time
from collections.abc import Iterable

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from bench.job import client

_BOUND_S = 30.0


class Place:
    """The broker at `bootstrap`, as the bench sees it."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.admin = AdminClient(client(bootstrap))

    def create(self, *topics: str, partitions: int) -> None:
        """New topics, one copy, stamped by the broker."""
        config = {"message.timestamp.type": "LogAppendTime"}
        made = [NewTopic(topic, partitions, 1, config=config) for topic in topics]
        for future in self.admin.create_topics(made).values():
            future.result(_BOUND_S)
        give_up = time.monotonic() + _BOUND_S
        while time.monotonic() < give_up:
            known = self.admin.list_topics(timeout=_BOUND_S).topics
            if all(topic in known and len(known[topic].partitions) == partitions for topic in topics):
                return
            time.sleep(0.05)
        raise TimeoutError(f"{topics} were created and did not appear in {_BOUND_S:.0f} s")

    def remove(self, part_of_name: str) -> None:
        """Delete every topic with this in its name, whoever made it."""
        names = [name for name in self.admin.list_topics(timeout=_BOUND_S).topics if part_of_name in name]
        if names:
            for future in self.admin.delete_topics(names).values():
                try:
                    future.result(_BOUND_S)
                except KafkaException:  # its maker may have deleted it meanwhile
                    continue


class Progress:
    """The committed offsets of a group on a topic. A context manager."""

    def __init__(self, bootstrap: str, group: str, topic: str, partitions: int) -> None:
        self._places = [TopicPartition(topic, number) for number in range(partitions)]
        # Uncommitted transactions are not waited for: the last committed offset is what counts.
        self._consumer = Consumer(
            {
                **client(bootstrap),
                "group.id": group,
                "isolation.level": "read_uncommitted",
                "enable.auto.commit": False,
            }
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def offsets(self) -> dict[int, int]:
        """Partition -> committed offset; 0 where there is none."""
        found: Iterable[TopicPartition] = self._consumer.committed(self._places, timeout=_BOUND_S)
        return {place.partition: max(0, place.offset) for place in found}

    def total(self) -> int:
        """Records committed in all."""
        return sum(self.offsets().values())

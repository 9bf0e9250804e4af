"""The records of the open transaction: a batch a partition that is being filled, and the full ones before it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TypeAlias

from streamapp.clock import SYSTEM_CLOCK, Clock
from streamapp.eos.batches import ROOM, Batch, Compression, HeaderList, refuse_record
from streamapp.eos.partitioner import DEFAULT, Partitioner
from streamapp.eos.protocol import TopicDescription
from streamapp.eos.transaction import BrokenTransaction
from streamapp.errors import RecordError
from streamapp.types import Partition

_NO_HEADERS: list[tuple[str, bytes | None]] = []
#: Records that are put into their batches together.
_TOGETHER = 256

#: A record to be written with the commit: topic, partition, key, value, headers, timestamp in milliseconds or None.
#: A plain tuple, because there are several an event.
Send: TypeAlias = "tuple[str, int, bytes | None, bytes | None, HeaderList, int | None]"


class RecordAccumulator:
    """Collects the records of the open transaction in one batch a partition.

    `topics`: what is known of the topics that may be written to, kept up to date by its owner.
    """

    def __init__(
        self,
        topics: dict[str, TopicDescription],
        batch_bytes: int,
        compression: Compression,
        clock: Clock,
        *,
        transactional: bool,
    ) -> None:
        #: Bytes of keys and values that were added since the last `clear()`.
        self.byte_count = 0
        #: Records that wait to be put into their batches, many at a time, which keeps a processor's caches warm.
        self._waiting: list[Send] = []
        #: Which partition the records without a key go to; counted up with each transaction.
        self.turn = 0
        self.topics = topics
        #: Topics whose senders all use another partitioner than Kafka's default.
        self.partitioners: dict[str, Partitioner] = {}
        self._batch_bytes = batch_bytes
        self._compression = compression
        self._clock = clock
        self._transactional = transactional
        self._now: Callable[[], float] = time.time if clock is SYSTEM_CLOCK else clock.now
        #: Topic -> the batch of each of its partitions, None where there is none.
        self._filling: dict[str, list[Batch | None]] = {}
        self._full: dict[Partition, list[Batch]] = {}

    def partition_for(self, topic: str, key: bytes | None) -> int:
        """A key's partition by the topic's partitioner; without a key mostly one partition a transaction, in turn."""
        partitioner = self.partitioners.get(topic, DEFAULT)
        return partitioner.partition_for(key, self.topics[topic].partition_count, self.turn)

    def check(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: HeaderList = _NO_HEADERS,
        timestamp_ms: int | None = None,
    ) -> None:
        """Refuse (`RecordError`) what would fail at the commit; for callers that stage a send before they append."""
        known = self.topics[topic]
        if (
            key is not None
            and value is not None
            and timestamp_ms is None
            and not headers
            and len(key) + len(value) <= known.max_message_bytes - ROOM
        ):
            return
        refuse_record(known, key, value, headers, timestamp_ms, self._clock.now() * 1000)

    def room(self, topic: str) -> int:
        """Bytes of key and value that a record of the topic without headers may always have."""
        return self.topics[topic].max_message_bytes - ROOM

    def check_partition(self, topic: str, partition: int) -> None:
        """Refuse (`RecordError`) a partition the topic does not have."""
        count = self.topics[topic].partition_count
        if not 0 <= partition < count:
            raise RecordError(f"{topic} has no partition {partition}, only 0 to {count - 1}.", kind="UnknownPartition")

    def add(self, sends: list[Send]) -> None:
        """Add records to the open transaction that `check()` has let through. Nothing is sent before the commit."""
        for _, _, key, value, _, _ in sends:
            if key is not None:
                self.byte_count += len(key)
            if value is not None:
                self.byte_count += len(value)
        self._waiting += sends
        if len(self._waiting) >= _TOGETHER:
            self._append_waiting()

    def _append_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            now_ms = int(self._now() * 1000)
            for topic, partition, key, value, headers, timestamp_ms in waiting:
                self._append(topic, partition, key, value, headers, timestamp_ms, now_ms)

    def append_all(self, topic: str, partition: int, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Add the records of a changelog: key and value."""
        self._append_waiting()
        now_ms = int(self._now() * 1000)
        for key, value in changes:
            self._append(topic, partition, key, value, (), None, now_ms)
            self.byte_count += len(key)
            if value is not None:
                self.byte_count += len(value)

    def append(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: HeaderList = _NO_HEADERS,
        timestamp_ms: int | None = None,
    ) -> None:
        """Add a record to the open transaction. Nothing is sent before the commit. `RecordError` as `check()`."""
        self._append_waiting()
        self._append(topic, partition, key, value, headers, timestamp_ms, int(self._now() * 1000))
        self.byte_count += len(key or b"") + len(value or b"")

    def _append(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: HeaderList,
        timestamp_ms: int | None,
        now_ms: int,
    ) -> None:
        filling = self._filling.get(topic)
        batch = filling[partition] if filling is not None and 0 <= partition < len(filling) else None
        if batch is None:
            batch = self._begin(topic, partition)
        if (
            key is None
            or value is None
            or headers
            or len(key) + len(value) > batch.easy_bytes
            or (timestamp_ms is not None and not batch.easy_from_ms <= timestamp_ms <= batch.easy_until_ms)
        ):
            self.check(topic, key, value, headers, timestamp_ms)
        stamp = now_ms if timestamp_ms is None else timestamp_ms
        if not batch.append(stamp, key, value, headers):
            self._full.setdefault(batch.partition, []).append(batch)
            batch = self._begin(topic, partition)
            batch.append(stamp, key, value, headers)

    def _begin(self, topic: str, partition: int) -> Batch:
        description = self.topics.get(topic)
        if description is None:
            raise BrokenTransaction(f"Nothing is known of topic {topic}: await ensure() before the first append.")
        self.check_partition(topic, partition)
        batch = Batch(
            Partition(topic, partition),
            description,
            self._batch_bytes,
            self._compression,
            self._clock.now() * 1000,
            transactional=self._transactional,
        )
        filling = self._filling.get(topic)
        if filling is None or len(filling) <= partition:  # the topic may have got partitions since
            filling = self._filling[topic] = (filling or []) + [None] * description.partition_count
        filling[partition] = batch
        return batch

    def batches(self) -> Iterator[Batch]:
        """Every batch with a record in it, those of a partition in the order they were filled."""
        self._append_waiting()
        for last in chain.from_iterable(self._filling.values()):
            if last is not None:
                for batch in (*self._full.get(last.partition, ()), last):
                    if batch.count:  # else it was begun for a record that was refused
                        yield batch

    def clear(self) -> None:
        """Forget everything appended."""
        self._waiting = []
        self._filling.clear()
        self._full.clear()
        self.byte_count = 0

"""The records of the open transaction: a batch a partition that is being filled, and the full ones before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain

from streamapp.clock import SYSTEM_CLOCK, Clock
from streamapp.eos.batches import ROOM, Batch, Compression, HeaderList, refuse_record
from streamapp.eos.partitioner import partition_of
from streamapp.eos.protocol import TopicDescription
from streamapp.eos.transaction import BrokenTransaction
from streamapp.errors import RecordError
from streamapp.types import Partition

_NO_HEADERS: list[tuple[str, bytes | None]] = []


class Filling:
    """See the module. `topics`: what is known of the topics that may be written to, kept up to date by its owner."""

    def __init__(
        self,
        topics: Mapping[str, TopicDescription],
        batch_bytes: int,
        compression: Compression,
        clock: Clock,
        *,
        transactional: bool,
    ) -> None:
        #: Bytes appended since the last `clear()`, before compression.
        self.byte_count = 0
        #: Which partition the records without a key go to; counted up with each transaction.
        self.turn = 0
        self._topics = topics
        self._batch_bytes = batch_bytes
        self._compression = compression
        self._clock = clock
        self._transactional = transactional
        self._builder_reads_clock = clock is SYSTEM_CLOCK
        #: Topic -> the batch of each of its partitions, None where there is none.
        self._filling: dict[str, list[Batch | None]] = {}
        self._full: dict[Partition, list[Batch]] = {}

    def partition_for(self, topic: str, key: bytes | None) -> int:
        """Kafka's default partition of a key; without a key one partition a transaction, in turn."""
        count = self._topics[topic].partition_count
        return self.turn % count if key is None else partition_of(key, count)

    def place(self, topic: str, key: bytes, value: bytes) -> int:
        """The partition of a plain record: no headers, no time of its own. `RecordError` as `check()`."""
        known = self._topics[topic]
        if len(key) + len(value) > known.max_message_bytes - ROOM:
            self.check(topic, key, value)
        return partition_of(key, known.partition_count)

    def check(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: HeaderList = _NO_HEADERS,
        timestamp_ms: int | None = None,
    ) -> None:
        """Refuse (`RecordError`) what would fail at the commit; for callers that stage a send before they append."""
        known = self._topics[topic]
        if (
            key is not None
            and value is not None
            and timestamp_ms is None
            and not headers
            and len(key) + len(value) <= known.max_message_bytes - ROOM
        ):
            return
        refuse_record(known, key, value, headers, timestamp_ms, self._clock.now() * 1000)

    def check_partition(self, topic: str, partition: int) -> None:
        """Refuse (`RecordError`) a partition the topic does not have."""
        count = self._topics[topic].partition_count
        if not 0 <= partition < count:
            raise RecordError(f"{topic} has no partition {partition}, only 0 to {count - 1}.", kind="UnknownPartition")

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
            headers = list(headers)
        if timestamp_ms is None and not self._builder_reads_clock:
            timestamp_ms = int(self._clock.now() * 1000)
        record = batch.append(batch.count, timestamp_ms, key, value, headers or _NO_HEADERS)
        if record is None:
            self._full.setdefault(batch.partition, []).append(batch)
            batch = self._begin(topic, partition)
            record = batch.append(0, timestamp_ms, key, value, headers or _NO_HEADERS)
        batch.count += 1
        self.byte_count += record.size

    def _begin(self, topic: str, partition: int) -> Batch:
        description = self._topics.get(topic)
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
        for last in chain.from_iterable(self._filling.values()):
            if last is not None:
                for batch in (*self._full.get(last.partition, ()), last):
                    if batch.count:  # else it was begun for a record that was refused
                        yield batch

    def clear(self) -> None:
        """Forget everything appended."""
        self._filling.clear()
        self._full.clear()
        self.byte_count = 0

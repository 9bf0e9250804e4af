"""A fetched record, and how fetched batches become records: in one call a batch, because every event passes here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from streamapp.types import Headers

#: Kafka's number for a record without a time.
NO_TIMESTAMP = -1
#: Kafka's number for a stamp of the sender's.
CREATE_TIME = 0
#: The topic's broker sets the time, at the append.
LOG_APPEND_TIME = 1


class Record:
    """A record as it was fetched. `timestamp` is milliseconds since the epoch, `NO_TIMESTAMP` where there is none.

    `timestamp_type` is Kafka's: 0 the producer's time, 1 the append's; `NO_TIMESTAMP` where the format has no time.
    `appended` is the time that ages, retention and the bound on the future go by, in milliseconds: the broker's where
    it has set one, else when the record came to this worker (`arrived`), and never what a sender says.
    """

    __slots__ = ("appended", "headers", "key", "offset", "partition", "timestamp", "timestamp_type", "topic", "value")

    def __init__(
        self,
        topic: str,
        partition: int,
        offset: int,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
        timestamp_type: int = LOG_APPEND_TIME,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.timestamp = timestamp
        self.timestamp_type = timestamp_type
        self.appended = timestamp if timestamp_type == LOG_APPEND_TIME else NO_TIMESTAMP
        self.key = key
        self.value = value
        self.headers = headers

    def __repr__(self) -> str:
        return f"<Record {self.topic}-{self.partition}@{self.offset}>"


def records_of(topic: str, partition: int, batch: Any, floor: int) -> list[Record]:
    """What a batch of aiokafka's holds from offset `floor` on. Raises what it raises for bytes that are no records."""
    records = []
    for found in batch:
        offset = found.offset
        if offset < floor:  # a fetch answers with whole batches
            continue
        record = Record.__new__(Record)
        record.topic = topic
        record.partition = partition
        record.offset = offset
        timestamp = found.timestamp
        if timestamp is None:
            record.timestamp = record.timestamp_type = record.appended = NO_TIMESTAMP
        else:
            record.timestamp = timestamp
            record.timestamp_type = found.timestamp_type
            record.appended = timestamp if record.timestamp_type == LOG_APPEND_TIME else NO_TIMESTAMP
        record.key = found.key
        record.value = found.value
        headers = found.headers
        record.headers = tuple(headers) if headers else ()
        records.append(record)
    return records


def changes_of(records: list[Record]) -> list[tuple[bytes, bytes | None]]:
    """What changelog records say: key and value; one without a key says nothing."""
    changes = []
    for record in records:
        if record.key is not None:
            changes.append((record.key, record.value))  # noqa: PERF401 - the compiled loop has C fields
    return changes


def arrived(records: list[Record], now_ms: int) -> None:
    """These have come to the worker now: that is the time of those to which no broker has given one."""
    for record in records:
        if record.appended < 0:
            record.appended = now_ms


def byte_count(records: list[Record]) -> int:
    """Bytes of their keys and values."""
    total = 0
    for record in records:
        if record.key is not None:
            total += len(record.key)
        if record.value is not None:
            total += len(record.value)
    return total


class Chunk:
    """The records of one batch; `offset` is the last one's."""

    __slots__ = ("offset", "records")

    def __init__(self, records: list[Record]) -> None:
        self.records = records
        self.offset = records[-1].offset


class FetchedBatches:
    """Record batches of aiokafka's, each of which counts as one record, a `Chunk`; `floor` is the offset asked for."""

    __slots__ = ("_batches", "_floor", "_number", "_topic")

    def __init__(self, topic: str, number: int, batches: Any, floor: int) -> None:
        self._topic = topic
        self._number = number
        self._batches = batches
        self._floor = floor

    def has_next(self) -> bool:
        """Whether there is another one."""
        found: bool = self._batches.has_next()
        return found

    def next_batch(self) -> FetchedBatch:
        """The next one."""
        return FetchedBatch(self._topic, self._number, self._batches.next_batch(), self._floor)


class FetchedBatch:
    """One of them: what its header says is aiokafka's, and so is the one record of a control batch, by `next()`."""

    __slots__ = (
        "_batch",
        "_floor",
        "_number",
        "_topic",
        "base_offset",
        "is_control_batch",
        "is_transactional",
        "next_offset",
        "producer_id",
        "validate_crc",
    )

    def __init__(self, topic: str, number: int, batch: Any, floor: int) -> None:
        self._topic = topic
        self._number = number
        self._batch = batch
        self._floor = floor
        self.base_offset = batch.base_offset
        self.next_offset = batch.next_offset
        self.producer_id = batch.producer_id
        self.is_control_batch = batch.is_control_batch
        self.is_transactional = batch.is_transactional
        self.validate_crc = batch.validate_crc

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Chunk]:
        records = records_of(self._topic, self._number, self._batch, self._floor)
        return iter((Chunk(records),) if records else ())


class Unpacked:
    """The records of one answered fetch of a partition, each once, out of chunks that are unpacked as they are reached.

    `chunks` has a `next_fetch_offset` behind what it has handed out; so has this, behind the last record. It ends
    before a batch that cannot be unpacked for a header's name, of which `on_unreadable` hears: the offset that is next.
    """

    __slots__ = ("_at", "_chunks", "_on_unreadable", "_records", "_remaining", "next_fetch_offset")

    def __init__(self, chunks: Any, on_unreadable: Callable[[int], None] | None = None) -> None:
        self._chunks = chunks
        self._on_unreadable = on_unreadable
        self._remaining: Iterator[Chunk] = iter(chunks)
        self._records: list[Record] = []
        self._at = 0
        self.next_fetch_offset = chunks.next_fetch_offset

    def __iter__(self) -> Iterator[Record]:
        return self

    def __next__(self) -> Record:
        while self._at == len(self._records):
            self._at = 0
            self._records = []
            try:
                chunk: Chunk = next(self._remaining)
            except StopIteration:  # there may be more that is no record: control batches, aborted ones
                self.next_fetch_offset = self._chunks.next_fetch_offset
                raise
            except UnicodeDecodeError:  # aiokafka decodes the names of headers as it unpacks, and has no way past one
                if self._on_unreadable is None:
                    raise
                self.next_fetch_offset = self._chunks.next_fetch_offset
                self._on_unreadable(self.next_fetch_offset)
                raise StopIteration from None
            self._records = chunk.records
        record = self._records[self._at]
        self._at += 1
        self.next_fetch_offset = record.offset + 1
        return record

"""Record batches being filled, and what is refused before it gets into one (decision 9).

aiokafka's Cython builder writes a record in about 0.25 us; its `BatchBuilder` around it would triple that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from streamapp.eos.protocol import Identity, TopicDescription
from streamapp.errors import RecordError
from streamapp.types import Partition

Compression = Literal["none", "gzip", "snappy", "lz4", "zstd"]
HeaderList = Sequence[tuple[str, bytes | None]]

_CODECS: dict[Compression, int] = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
_MAGIC = 2
#: Bytes of a batch before its records.
_BATCH_HEADER = 61
#: More than a record takes beside key, value and headers: length, attributes and deltas.
_RECORD_OVERHEAD = 24
#: Longer than any batch stays open.
_OPEN_AT_MOST_MS = 3_600_000
_FOREVER_MS = 2**63 - 1
#: More than the lengths of key, value and headers take, as varints.
_LENGTHS = 16
#: Key and value of a record without headers that leave this much of `max.message.bytes` fit the topic.
ROOM = _BATCH_HEADER + _RECORD_OVERHEAD + _LENGTHS


class Batch:
    """One record batch (magic 2) of one partition. `append` is the Cython builder's own, for the hot path.

    `append(index, timestamp_ms, key, value, headers)` returns None when the batch is full. A first record always
    fits, so its size is checked before. What is within `easy_bytes` of key and value and between `easy_from_ms` and
    `easy_until_ms` needs no closer look.
    """

    __slots__ = ("_builder", "append", "count", "easy_bytes", "easy_from_ms", "easy_until_ms", "partition", "topic")

    def __init__(
        self,
        partition: Partition,
        topic: TopicDescription,
        batch_bytes: int,
        compression: Compression,
        now_ms: float = 0,
        *,
        transactional: bool = True,
    ) -> None:
        self.partition = partition
        self.topic = topic
        self._builder: Any = DefaultRecordBatchBuilder(
            _MAGIC, _CODECS[compression], int(transactional), -1, -1, 0, min(batch_bytes, topic.max_message_bytes)
        )
        self.append = self._builder.append
        self.count = 0
        # The bound in the past moves with the clock while the batch is open, so it keeps a distance.
        past_ms = 0 if topic.append_time else now_ms - topic.timestamp_before_max_ms + _OPEN_AT_MOST_MS
        self.easy_from_ms = max(0, int(past_ms))
        self.easy_until_ms = _FOREVER_MS
        if not topic.append_time:
            self.easy_until_ms = min(_FOREVER_MS, int(now_ms) + topic.timestamp_after_max_ms)
        self.easy_bytes = topic.max_message_bytes - ROOM

    def close(self, identity: Identity, sequence: int) -> bytearray:
        """The batch's bytes under this identity, compressed. Nothing can be appended any more."""
        self._builder.set_producer_state(identity.producer_id, identity.epoch, sequence)
        records: bytearray = self._builder.build()
        return records


def refuse_record(
    topic: TopicDescription,
    key: bytes | None,
    value: bytes | None,
    headers: HeaderList,
    timestamp_ms: int | None,
    now_ms: float,
) -> None:
    """Raise `RecordError` for what the broker would refuse at the commit, where it would cost the whole interval.

    The size is that before compression: what it will be after is not known until the batch is closed.
    """
    if key is None and topic.compacted:
        raise RecordError(f"A record for {topic.name} has no key, but the topic is compacted.", kind="MissingKey")
    if timestamp_ms is not None:
        _refuse_timestamp(topic, timestamp_ms, now_ms)
    size = record_bytes(key, value, headers)
    if size > topic.max_message_bytes:
        raise RecordError(
            f"A record for {topic.name} takes {size:,} bytes, but the topic's max.message.bytes is "
            f"{topic.max_message_bytes:,}.",
            kind="RecordTooLarge",
        )


def _refuse_timestamp(topic: TopicDescription, timestamp_ms: int, now_ms: float) -> None:
    if timestamp_ms < 0:
        raise RecordError(f"A record for {topic.name} has timestamp {timestamp_ms}, below 0.", kind="BadTimestamp")
    if topic.append_time:
        return
    if timestamp_ms > now_ms + topic.timestamp_after_max_ms or timestamp_ms < now_ms - topic.timestamp_before_max_ms:
        raise RecordError(
            f"A record for {topic.name} has timestamp {timestamp_ms}, further from now than its "
            "message.timestamp.before.max.ms or message.timestamp.after.max.ms allow.",
            kind="BadTimestamp",
        )


def record_bytes(key: bytes | None, value: bytes | None, headers: HeaderList) -> int:
    """Bytes at most of a batch with this record alone, uncompressed."""
    size = DefaultRecordBatchBuilder.size_of(key, value, list(headers))
    return int(size) + _BATCH_HEADER + _RECORD_OVERHEAD

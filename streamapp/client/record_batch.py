"""Record batches as bytes (magic 2) and back, for those who read and write them outside a transaction's producer.

The codecs and the layout are aiokafka's; this is where the layers above `eos` get at them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from streamapp.eos.protocol import NO_IDENTITY, ProducerIdentity
from streamapp.types import Headers


class BatchRecord(NamedTuple):
    """One record as a batch carries it. `offset` is relative to the batch when it was not yet appended to a log."""

    offset: int
    #: Milliseconds since the epoch; of the broker's clock where the topic has append time.
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


#: What `pack()` takes: key, value, timestamp in ms and headers.
Content = tuple[bytes | None, bytes | None, int, Headers]


def pack(
    contents: Iterable[Content],
    *,
    identity: ProducerIdentity = NO_IDENTITY,
    sequence: int = -1,
    transactional: bool = False,
) -> bytes:
    """One batch of these records. Without an identity it is a plain one, as any producer outside a transaction sends.

    `sequence` is the first record's; Kafka's own rule is 0 for the first batch of a partition in an epoch.
    """
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=int(transactional),
        producer_id=identity.producer_id,
        producer_epoch=identity.epoch,
        base_sequence=sequence,
        batch_size=1 << 30,
    )
    for index, (key, value, timestamp_ms, headers) in enumerate(contents):
        builder.append(index, timestamp_ms, key, value, list(headers))
    return bytes(builder.build())


def unpack(payload: bytes | bytearray) -> list[BatchRecord]:
    """The records of every batch in these bytes; `ValueError` when they are damaged."""
    found: list[BatchRecord] = []
    batches = MemoryRecords(bytes(payload))
    while batches.has_next():
        batch = batches.next_batch()
        if not batch.validate_crc():
            raise ValueError("a record batch does not match its checksum")
        found.extend(
            BatchRecord(record.offset, record.timestamp, record.key, record.value, tuple(record.headers))
            for record in batch
        )
    return found

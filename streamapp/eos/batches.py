"""Record batches being filled, and what is refused before it gets into one (decision 9).

The layout (magic 2) is Kafka's, documentation section "Message Format". A record is kept as the pieces it is made of
and joined when the batch is closed: a third of what aiokafka's builder and the steps around it cost an append.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Literal

from streamapp.batch_codecs import calc_crc32c, gzip_encode, lz4_encode, snappy_encode, zstd_encode
from streamapp.eos.protocol import ProducerIdentity, TopicDescription
from streamapp.errors import RecordError
from streamapp.types import Partition

Compression = Literal["none", "gzip", "snappy", "lz4", "zstd"]
HeaderList = Sequence[tuple[str, bytes | None]]

#: Number and encoder of each codec.
_CODECS: dict[Compression, tuple[int, Callable[[bytes], bytes]]] = {
    "gzip": (1, gzip_encode),
    "snappy": (2, snappy_encode),
    "lz4": (3, lz4_encode),
    "zstd": (4, zstd_encode),
}
_TRANSACTIONAL = 0x10
_MAGIC = 2
#: Base offset, length of what follows, leader epoch, magic, checksum of the rest.
_HEAD = struct.Struct(">qiibI")
#: Attributes, last offset delta, first and largest timestamp, producer id, epoch, sequence, count of records.
_REST = struct.Struct(">hiqqqhii")
#: Of the head, what counts into the length: all behind it.
_COUNTED = 9
#: Bytes of a batch before its records.
_BATCH_HEADER = _HEAD.size + _REST.size
#: More than a record takes beside key, value and headers: length, attributes and deltas.
_RECORD_OVERHEAD = 24
#: Longer than any batch stays open.
_OPEN_AT_MOST_MS = 3_600_000
_FOREVER_MS = 2**63 - 1
#: More than the lengths of key, value and headers take, as varints.
_LENGTHS = 16
#: Key and value of a record without headers that leave this much of `max.message.bytes` fit the topic.
ROOM = _BATCH_HEADER + _RECORD_OVERHEAD + _LENGTHS


def _varint(value: int) -> bytes:
    """A signed number as Kafka's records have it: zigzag, seven bits a byte, the lowest first."""
    rest = (value << 1) ^ (value >> 63)
    made = bytearray()
    while rest > 0x7F:
        made.append(rest & 0x7F | 0x80)
        rest >>= 7
    made.append(rest)
    return bytes(made)


#: Those of most lengths and deltas: of one and two bytes.
_SMALL_COUNT = 1 << 13
_SMALL = [_varint(value) for value in range(_SMALL_COUNT)]
_NULL = _varint(-1)
_NO_HEADERS = _varint(0)
_ATTRIBUTES = b"\0"
#: Pieces are joined while they are in a processor's caches, and their memory is used again.
_JOINED_AT = 512


def varint(value: int) -> bytes:
    """As `_varint`, without making it where it is a small one."""
    if 0 <= value < _SMALL_COUNT:
        return _SMALL[value]
    return _varint(value)


class Batch:
    """One record batch (magic 2) of one partition.

    What is within `easy_bytes` of key and value and between `easy_from_ms` and `easy_until_ms` needs no closer look.
    """

    __slots__ = (
        "_compression",
        "_first_ms",
        "_joined",
        "_largest_ms",
        "_last_ms",
        "_pieces",
        "_size",
        "_size_max",
        "_stamp",
        "_transactional",
        "count",
        "easy_bytes",
        "easy_from_ms",
        "easy_until_ms",
        "partition",
        "topic",
    )

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
        self.count = 0
        self._compression = compression
        self._transactional = transactional
        #: What the last records are made of, and those before them, joined.
        self._pieces: list[bytes] = []
        self._joined: list[bytes] = []
        self._size = _BATCH_HEADER
        self._size_max = min(batch_bytes, topic.max_message_bytes)
        self._first_ms = self._last_ms = self._largest_ms = 0
        #: Attributes and timestamp of the last record; most have those of the one before.
        self._stamp = b""
        # The bound in the past moves with the clock while the batch is open, so it keeps a distance.
        past_ms = 0 if topic.append_time else now_ms - topic.timestamp_before_max_ms + _OPEN_AT_MOST_MS
        self.easy_from_ms = max(0, int(past_ms))
        self.easy_until_ms = _FOREVER_MS
        if not topic.append_time:
            self.easy_until_ms = min(_FOREVER_MS, int(now_ms) + topic.timestamp_after_max_ms)
        self.easy_bytes = topic.max_message_bytes - ROOM

    def append(self, timestamp_ms: int, key: bytes | None, value: bytes | None, headers: HeaderList) -> int:
        """Add a record: how many bytes it takes, or 0 when the batch is full and it was not added.

        A first record is always added, so its size is to be checked before. `TypeError` for what is not bytes.
        """
        if not ((key is None or type(key) is bytes) and (value is None or type(value) is bytes)):
            raise TypeError(f"key and value of a record are bytes or None, not {type(key)} and {type(value)}")
        if not self.count:
            self._first_ms = timestamp_ms
        if timestamp_ms != self._last_ms or not self.count:
            self._last_ms = timestamp_ms
            self._stamp = _ATTRIBUTES + varint(timestamp_ms - self._first_ms)
        place = varint(self.count)
        key_length = _NULL if key is None else varint(len(key))
        value_length = _NULL if value is None else varint(len(value))
        tail = _headers(headers) if headers else _NO_HEADERS
        size = len(self._stamp) + len(place) + len(key_length) + len(value_length) + len(tail)
        if key is not None:
            size += len(key)
        if value is not None:
            size += len(value)
        length = varint(size)
        size += len(length)
        if self.count and self._size + size > self._size_max:
            return 0
        self._largest_ms = max(self._largest_ms, timestamp_ms)
        pieces = self._pieces
        pieces.append(length)
        pieces.append(self._stamp)
        pieces.append(place)
        pieces.append(key_length)
        if key is not None:
            pieces.append(key)
        pieces.append(value_length)
        if value is not None:
            pieces.append(value)
        pieces.append(tail)
        if len(pieces) >= _JOINED_AT:
            self._joined.append(b"".join(pieces))
            pieces.clear()
        self.count += 1
        self._size += size
        return size

    def close(self, identity: ProducerIdentity, sequence: int) -> bytes:
        """The batch's bytes under this identity, compressed. Nothing can be appended any more."""
        pieces = [b"", *self._joined, *self._pieces]
        self._pieces, self._joined = [], []
        attributes = _TRANSACTIONAL if self._transactional else 0
        if self._compression != "none":
            codec, encode = _CODECS[self._compression]
            records = b"".join(pieces)
            compressed = encode(records)
            if len(compressed) < len(records):
                pieces, attributes = [b"", bytes(compressed)], attributes | codec
        pieces[0] = _REST.pack(
            attributes,
            self.count - 1,
            self._first_ms,
            self._largest_ms,
            identity.producer_id,
            identity.epoch,
            sequence,
            self.count,
        )
        counted = b"".join(pieces)
        return _HEAD.pack(0, len(counted) + _COUNTED, -1, _MAGIC, calc_crc32c(counted)) + counted


def _headers(headers: HeaderList) -> bytes:
    """A record's headers, with their count."""
    pieces = [varint(len(headers))]
    for name, value in headers:
        encoded = name.encode()
        pieces += (varint(len(encoded)), encoded)
        pieces += (_NULL,) if value is None else (varint(len(value)), value)
    return b"".join(pieces)


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
    size = _BATCH_HEADER + _RECORD_OVERHEAD + len(_headers(headers))
    for part in (key, value):
        size += len(_NULL) if part is None else len(varint(len(part))) + len(part)
    return size

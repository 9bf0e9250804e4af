"""A record batch (magic 2) read by ourselves, for what aiokafka refuses to unpack: a header's name that is no UTF-8.

Kafka's broker takes such a record, and its Java client reads it. The layout is Kafka's, documentation section "Message
Format". Bytes come from anybody: whatever does not fit is a `CorruptRecordException`, as aiokafka's own.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from aiokafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from aiokafka.errors import CorruptRecordException
from aiokafka.record.util import calc_crc32c

from streamapp.engine.record import LOG_APPEND_TIME, NO_TIMESTAMP, Record

#: Base offset, length of what follows, leader epoch, magic, checksum of the rest.
_HEAD = struct.Struct(">qiibI")
#: Attributes, last offset delta, first and largest timestamp, producer id, epoch, sequence, count of records.
_REST = struct.Struct(">hiqqqhii")
_CHECKED = _HEAD.size
#: Of the head, what the length does not count.
_UNCOUNTED = 12
_MAGIC = 2
_CODEC, _APPEND_TIME = 0x07, 0x08
_CODECS: dict[int, Callable[[bytes], bytes]] = {
    0: bytes,
    1: gzip_decode,
    2: snappy_decode,
    3: lz4_decode,
    4: zstd_decode,
}
_VARINT_BITS = 70


def read_batch(raw: bytes, topic: str, partition: int, floor: int) -> tuple[list[Record], int]:
    """The records from offset `floor` on of the batch it is in, the first of `raw`; and the offset behind that batch.

    A header's name that is no UTF-8 is read as Kafka's Java client reads it, with U+FFFD for what does not fit.
    """
    try:
        base, length, _, magic, checksum = _HEAD.unpack_from(raw)
        end = length + _UNCOUNTED
        if magic != _MAGIC or not _CHECKED + _REST.size <= end <= len(raw):
            raise CorruptRecordException(f"no whole record batch of the present format at {topic}-{partition}@{floor}")
        if calc_crc32c(raw[_CHECKED:end]) != checksum:
            raise CorruptRecordException(f"Invalid CRC - {topic}-{partition}@{base}")
        attributes, last_delta, first_ms, largest_ms, *_, count = _REST.unpack_from(raw, _CHECKED)
        pieces = _Pieces(_CODECS[attributes & _CODEC](raw[_CHECKED + _REST.size : end]))
        records = []
        for _ in range(count):
            record = _record(pieces, topic, partition, base, first_ms)
            if attributes & _APPEND_TIME:
                record.timestamp, record.timestamp_type = largest_ms, LOG_APPEND_TIME
            if record.offset >= floor:
                records.append(record)
    except CorruptRecordException:
        raise
    except Exception as exc:  # a codec says in its own words what it cannot read
        raise CorruptRecordException(f"a record batch at {topic}-{partition}@{floor} cannot be read: {exc!r}") from exc
    return records, base + last_delta + 1


def _record(pieces: _Pieces, topic: str, partition: int, base: int, first_ms: int) -> Record:
    pieces.varint()  # its length: every field has one of its own
    pieces.take(1)
    timestamp = first_ms + pieces.varint()
    offset = base + pieces.varint()
    key, value = pieces.bytes_or_none(), pieces.bytes_or_none()
    headers: list[tuple[str, Any]] = []
    for _ in range(pieces.varint()):
        name = pieces.bytes_or_none() or b""
        headers.append((name.decode(errors="replace"), pieces.bytes_or_none()))
    has_time = first_ms != NO_TIMESTAMP
    return Record(
        topic,
        partition,
        offset,
        timestamp if has_time else NO_TIMESTAMP,
        key,
        value,
        tuple(headers),
        0,
    )


class _Pieces:
    """Reads one field after the other."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    def take(self, count: int) -> bytes:
        """So many bytes."""
        taken = self._raw[self._at : self._at + count]
        if count < 0 or len(taken) < count:
            raise CorruptRecordException(f"{count} bytes asked for where {len(taken)} are left")
        self._at += count
        return taken

    def varint(self) -> int:
        """A signed number: zigzag, seven bits a byte, the lowest first."""
        value = 0
        for shift in range(0, _VARINT_BITS, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value >> 1 ^ -(value & 1)
        raise CorruptRecordException("a number of more than ten bytes")

    def bytes_or_none(self) -> bytes | None:
        """A length and as many bytes; None for length -1."""
        count = self.varint()
        return None if count == -1 else self.take(count)

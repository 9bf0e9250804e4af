"""A fetched record of one type as key and value, checked: whatever is wrong with it is a `RecordError`."""

from __future__ import annotations

from typing import Any

from streamapp.codec import Codec
from streamapp.driver.record import Record
from streamapp.eos.partitioner import partition_of
from streamapp.errors import RecordError


class RecordReader:
    """Reads the records of one topic with so many partitions."""

    __slots__ = ("_codec", "_decoder", "_has_time", "_key_of", "_partition_count")

    def __init__(self, codec: Codec[Any], partition_count: int) -> None:
        self._codec = codec
        self._partition_count = partition_count
        self._decoder = codec.decoder
        self._key_of = codec.key_text
        self._has_time = codec.has_time

    def __call__(self, record: Record) -> tuple[str | None, Any]:
        """The same as `read`."""
        return self.read(record)

    def read(self, record: Record) -> tuple[str | None, Any]:
        """(key, value) of a record. Raises `RecordError` for what the contract calls a bad record."""
        value = self._decoder.decode(record.value)
        raw_key: bytes | None = record.key
        key: str | None = self._key_of(value) if self._key_of is not None else None
        if key is None:
            key = _text(raw_key)
        elif raw_key != key.encode():
            self._codec.check_key(value, raw_key)
        if raw_key is not None and partition_of(raw_key, self._partition_count) != record.partition:
            raise RecordError(
                f"the key belongs to partition {partition_of(raw_key, self._partition_count)} of "
                f"{self._partition_count}, not {record.partition}",
                kind="WrongPartition",
            )
        if self._has_time:
            self._codec.check_time(value, record.timestamp / 1000)
        return key, value


def _text(key: bytes | None) -> str | None:
    """A key that no field says; `RecordError` when it is no text."""
    try:
        return None if key is None else key.decode()
    except UnicodeDecodeError as exc:
        raise RecordError(f"the key is not UTF-8: {exc}", kind="KeyMismatch") from None

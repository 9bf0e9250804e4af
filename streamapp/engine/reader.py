"""A fetched record as key and value: whatever is wrong with it is a `RecordError`."""

from __future__ import annotations

from typing import Any

from streamapp.codec import Codec
from streamapp.engine.record import Record
from streamapp.eos.partitioner import DEFAULT, Partitioner, partition_of
from streamapp.errors import RecordError


class Reader:
    """Reads the records of one topic."""

    __slots__ = ()

    def read(self, record: Record) -> tuple[Any, Any]:
        """(key, value) of a record. Raises `RecordError` for one that nobody can read."""
        raise NotImplementedError


class RecordReader(Reader):
    """Reads records of one type, which are checked, too; the topic has so many partitions, and senders of one kind."""

    __slots__ = (
        "_allows_null",
        "_codec",
        "_decoder",
        "_has_time",
        "_is_default",
        "_key_of",
        "_partition_count",
        "_partitioner",
    )

    def __init__(
        self,
        codec: Codec[Any],
        partition_count: int,
        allows_null: bool = False,
        partitioner: Partitioner = DEFAULT,
    ) -> None:
        self._allows_null = allows_null
        self._codec = codec
        self._partition_count = partition_count
        self._partitioner = partitioner
        #: What every event takes is called without a look at which one it is.
        self._is_default = partitioner is DEFAULT
        self._decoder = codec.decoder
        self._key_of = codec.key_text
        self._has_time = codec.has_time

    def read(self, record: Record) -> tuple[str | None, Any]:
        """(key, value) of a record. Raises `RecordError` for what the contract calls a bad record.

        A null value is None where the topic says `allow_empty=True`.
        """
        raw_key: bytes | None = record.key
        key: str | None = None
        if record.value is None and self._allows_null:
            value = None
            if raw_key is None and self._key_of is not None:
                raise RecordError("key and value are null: nothing says what was deleted", kind="KeyMismatch")
        else:
            value = self._decoder.decode(record.value)
            if self._key_of is not None:
                key = self._key_of(value)
        if key is None:
            key = _text(raw_key)
        elif raw_key != key.encode():
            self._codec.check_key(value, raw_key)
        if raw_key is not None:
            if self._is_default:
                partition = partition_of(raw_key, self._partition_count)
            else:
                partition = self._partitioner.partition_of(raw_key, self._partition_count)
            if partition != record.partition and not self._partitioner.scatters(raw_key):
                raise RecordError(
                    f"the key belongs to partition {partition} of {self._partition_count} by {self._partitioner.name}, "
                    f"not {record.partition}",
                    kind="WrongPartition",
                )
        if self._has_time and value is not None:
            self._codec.check_time(value, record.appended / 1000)
        return key, value


def _text(key: bytes | None) -> str | None:
    """A key that no field says; `RecordError` when it is no text."""
    try:
        return None if key is None else key.decode()
    except UnicodeDecodeError as exc:
        raise RecordError(f"the key is not UTF-8: {exc}", kind="KeyMismatch") from None

"""How Faust's topics and tables read and write our records."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import faust
from aiokafka.partitioner import murmur2
from faust.exceptions import ValueDecodeError
from faust.serializers.codecs import Codec as FaustCodec

from streamapp.codec import Codec
from streamapp.errors import RecordError

#: Keys whose partition is remembered; beyond it the memory starts anew.
_PARTITIONS_REMEMBERED = 1 << 17


class Partitioner:
    """Kafka's default partition of a key: positive murmur2, remembered because hashing in Python is slow."""

    def __init__(self) -> None:
        self._known: dict[bytes, int] = {}

    def __call__(self, key: bytes, partitions: int) -> int:
        hashed = self._known.get(key)
        if hashed is None:
            if len(self._known) >= _PARTITIONS_REMEMBERED:
                self._known.clear()
            hashed = self._known[key] = murmur2(key) & 0x7FFFFFFF
        return hashed % partitions


class RecordSchema(faust.Schema):
    """A topic's schema for one type of record: decodes and checks what arrives, encodes what is sent."""

    def __init__(self, codec: Codec[Any], partition_of: Partitioner) -> None:
        super().__init__(key_type=str, key_serializer="raw", value_serializer="raw")
        self.codec = codec
        self._partition_of = partition_of

    def read(self, message: Any, partitions: int) -> Any:
        """The record of a consumed message. Raises `RecordError` for whatever the contract calls a bad record."""
        record = self.codec.decode(message.value)
        self.codec.check_key(record, message.key)
        expected = self._partition_of(message.key, partitions)
        if expected != message.partition:
            raise RecordError(
                f"the key belongs to partition {expected} of {partitions}, not {message.partition}",
                kind="WrongPartition",
            )
        if message.timestamp is not None:
            self.codec.check_time(record, message.timestamp)
        return record

    def compile(self, app: Any, **_: Any) -> Callable[..., Awaitable[Any]]:
        partition_count = app.partition_count
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            try:
                record = self.read(message, partition_count(message.topic))
            except RecordError as exc:
                raise ValueDecodeError(str(exc)) from exc
            return create_event(message.key.decode(), record, message.headers, message)

        return decode

    def dumps_value(self, app: Any, value: Any, *, serializer: Any = None, headers: Any) -> tuple[Any, Any]:
        return (value if isinstance(value, bytes) else self.codec.encode(value)), headers


class RecordSerializer(FaustCodec):
    """A table's value serializer for one type of record."""

    def __init__(self, codec: Codec[Any]) -> None:
        super().__init__()
        self._codec = codec

    def dumps(self, obj: Any) -> bytes:
        return self._codec.encode(obj)

    def loads(self, s: bytes) -> Any:
        return self._codec.decode(s)

    def clone(self, *children: Any) -> FaustCodec:
        return self

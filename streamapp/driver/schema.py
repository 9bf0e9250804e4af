"""How Faust's topics and tables read and write our records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import faust

from streamapp.codec import Codec
from streamapp.eos.partitioner import Partitioner
from streamapp.errors import RecordError


class RecordSchema(faust.Schema):
    """A topic's schema for one type of record: decodes and checks what arrives, encodes what is sent."""

    def __init__(self, codec: Codec[Any], partition_of: Partitioner) -> None:
        super().__init__(key_type=str, key_serializer="raw", value_serializer="raw")
        self.codec = codec
        self._partition_of = partition_of

    def reader(self, partition_count: int) -> Callable[[Any], tuple[str | None, Any]]:
        """Makes (key, value) of a fetched record. It raises `RecordError` for what the contract calls a bad record."""
        codec, partition_of = self.codec, self._partition_of
        decode, key_of, has_time = codec.decode, codec.key_text, codec.has_time

        def read(record: Any) -> tuple[str | None, Any]:
            value = decode(record.value)
            raw_key = record.key
            key = key_of(value) if key_of is not None else None
            if key is None:
                key = _text(raw_key)
            elif raw_key != key.encode():
                codec.check_key(value, raw_key)
            if raw_key is not None and partition_of(raw_key, partition_count) != record.partition:
                raise RecordError(
                    f"the key belongs to partition {partition_of(raw_key, partition_count)} of {partition_count}, "
                    f"not {record.partition}",
                    kind="WrongPartition",
                )
            if has_time:
                codec.check_time(value, record.timestamp / 1000)
            return key, value

        return read

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        """For Faust's own use of a topic; the engine reads with `read()`."""
        return self.codec.decode(message.value)

    def dumps_value(self, app: Any, value: Any, *, serializer: Any = None, headers: Any) -> tuple[Any, Any]:
        return self.dump(value), headers

    def dump(self, value: Any) -> bytes:
        """The bytes of a value; bytes are taken as they are."""
        return value if isinstance(value, bytes) else self.codec.encode(value)


def _text(key: bytes | None) -> str | None:
    """A key that no field says; `RecordError` when it is no text."""
    try:
        return None if key is None else key.decode()
    except UnicodeDecodeError as exc:
        raise RecordError(f"the key is not UTF-8: {exc}", kind="KeyMismatch") from None

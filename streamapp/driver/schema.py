"""How Faust's topics and tables read and write our records."""

from __future__ import annotations

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

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        """For Faust's own use of a topic; the engine reads with `read()`."""
        return self.codec.decode(message.value)

    def dumps_value(self, app: Any, value: Any, *, serializer: Any = None, headers: Any) -> tuple[Any, Any]:
        return (value if isinstance(value, bytes) else self.codec.encode(value)), headers

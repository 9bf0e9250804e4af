"""How Faust's topics and tables read and write our records."""

from __future__ import annotations

from typing import Any

import faust

from streamapp.codec import Codec
from streamapp.driver.reader import RecordReader


class RecordSchema(faust.Schema):
    """A topic's schema for one type of record: decodes and checks what arrives, encodes what is sent."""

    def __init__(self, codec: Codec[Any]) -> None:
        super().__init__(key_type=str, key_serializer="raw", value_serializer="raw")
        self.codec = codec

    def reader(self, partition_count: int) -> RecordReader:
        """For a topic of so many partitions; `RecordError` is what the contract calls a bad record."""
        return RecordReader(self.codec, partition_count)

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        """For Faust's own use of a topic; the engine reads with `read()`."""
        return self.codec.decode(message.value)

    def dumps_value(self, app: Any, value: Any, *, serializer: Any = None, headers: Any) -> tuple[Any, Any]:
        return self.dump(value), headers

    def dump(self, value: Any) -> bytes:
        """The bytes of a value; bytes are taken as they are."""
        return bytes(value) if isinstance(value, bytes) else self.codec.encode(value)

"""How Faust's topics and tables read and write our records."""

from __future__ import annotations

from typing import Any

import faust

from streamapp import finite
from streamapp.codec import Codec
from streamapp.engine.reader import RecordReader
from streamapp.eos.partitioner import DEFAULT, Partitioner


class RecordSchema(faust.Schema):
    """A topic's schema for one type of record: decodes and checks what arrives, encodes what is sent."""

    def __init__(self, codec: Codec[Any]) -> None:
        super().__init__(key_type=str, key_serializer="raw", value_serializer="raw")
        self.codec = codec

    def reader(self, partition_count: int, partitioner: Partitioner = DEFAULT) -> RecordReader:
        """For a topic of so many partitions; `RecordError` is what the contract calls a bad record."""
        return RecordReader(self.codec, partition_count, self.allow_empty, partitioner)

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        """For Faust's own use of a topic; the engine reads with `read()`."""
        return self.codec.decode(message.value)

    def dumps_value(self, app: Any, value: Any, *, serializer: Any = None, headers: Any) -> tuple[Any, Any]:
        return self.dump(value), headers

    def dump(self, value: Any) -> bytes | None:
        """The bytes of a value; bytes are taken as they are, and None is a null value."""
        if type(value) is self.codec.record_type:
            return self.codec.encode(value)
        if value is None or isinstance(value, bytes):
            return None if value is None else bytes(value)
        return finite.encode(value)


def dumped(schema: Any, app: Any, value: Any, serializer: Any, headers: Any) -> tuple[Any, Any]:
    """What a schema makes of a value that is sent, and the headers. None is a null value with every serializer."""
    if value is None:
        return None, schema.on_dumps_value_prepare_headers(value, headers)
    return schema.dumps_value(app, value, serializer=serializer, headers=headers)

"""Our topics and tables on Faust's own transport, at least once."""

from __future__ import annotations

import logging
from typing import Any

import faust
import msgspec
from faust import topics

from streamapp.codec import RECORD_BYTES_MAX, Codec
from streamapp.delivery.dead_letter import Source, dead_letter
from streamapp.driver.schema import RecordSerializer


class Topic(topics.Topic):
    """A topic whose bad records go to its dead-letter topic instead of stopping the worker."""

    async def on_value_decode_error(self, exc: Exception, message: Any) -> None:
        source = Source(
            message.topic,
            message.partition,
            message.offset,
            int((message.timestamp or 0) * 1000),
            message.key,
            message.value,
            tuple(message.headers or ()),
        )
        letter = dead_letter(
            source, exc.__cause__ or exc, group=self.app.conf.id, attempts=1, size_max=RECORD_BYTES_MAX + (64 << 10)
        )
        producer = await self.app.maybe_start_producer()
        await producer.send_and_wait(
            letter.topic, letter.key, letter.value, letter.partition, None, list(letter.headers)
        )


class Table(faust.Table):
    """A table that takes a msgspec struct as `value_type`."""

    logger = logging.getLogger("faust.tables")

    def __init__(self, app: Any, *, value_type: Any = None, **options: Any) -> None:
        is_struct = isinstance(value_type, type) and issubclass(value_type, msgspec.Struct)
        super().__init__(app, value_type=None if is_struct else value_type, **options)
        if is_struct:
            self.value_serializer = RecordSerializer(Codec(value_type))

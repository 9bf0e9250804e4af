"""From a fetched record to the agents: one route a topic, built anew with each assignment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from faust.exceptions import DecodeError
from faust.types.tuples import TP

from streamapp.driver.event import Event, message_of
from streamapp.driver.schema import RecordSchema
from streamapp.driver.unit import Unit
from streamapp.errors import RecordError

#: Makes (key, value) of a record, or raises `RecordError`.
Reader = Callable[[Any], tuple[Any, Any]]


class TopicRoute:
    """The channels that subscribe to one topic; those with the same schema share what was decoded."""

    def __init__(self, app: Any, topic: str, partition_count: int, channels: list[Any]) -> None:
        self._app = app
        self._partition_count = partition_count
        self._readers: list[tuple[Reader, list[Any]]] = []
        by_schema: dict[Any, list[Any]] = {}
        for channel in channels:
            by_schema.setdefault(_identity(channel.schema), []).append(channel)
        for sharing in by_schema.values():
            self._readers.append((self._reader(sharing[0].schema), sharing))
        self._windowed = [table for table in app.windowed_tables if topic in table.topics]
        self.topic = topic
        self.lanes = self.batch = 1
        for channel in channels:
            channel.routes.add(self)
        self.refresh()

    def refresh(self) -> None:
        """Look again at what the agents want: one has begun to take batches."""
        channels = [channel for _, sharing in self._readers for channel in sharing]
        self.batch = max((channel.batch for channel in channels), default=1)
        # A batch holds events of several keys, so where an agent takes batches nothing may run beside it.
        self.lanes = 1 if self.batch > 1 else max((channel.lanes for channel in channels), default=1)

    def deliver(self, unit: Unit) -> None:
        """Decode everything first: a record that cannot be read must not have reached anybody."""
        app, records = self._app, unit.records
        decoded = []
        for read, channels in self._readers:
            events = [Event(app, *read(record), record, unit) for record in records]
            decoded.append((events, channels))
        for table in self._windowed:
            table.see(unit, [events[0].value for events, _ in decoded])
        number = records[0].partition
        waiting = []
        for events, channels in decoded:
            for channel in channels:
                if channel.active_partitions is not None and TP(self.topic, number) not in channel.active_partitions:
                    continue
                mailbox = channel.mailbox(unit.lane % channel.lanes if unit.lane else 0)
                if channel.batch > 1:
                    waiting.append((mailbox, events))
                else:
                    waiting.extend((mailbox, event) for event in events)
        unit.pending = len(waiting)
        for mailbox, item in waiting:
            mailbox.put(unit, item)

    def _reader(self, schema: Any) -> Reader:
        if isinstance(schema, RecordSchema):
            return self._record_reader(schema)
        return self._faust_reader(schema)

    def _record_reader(self, schema: RecordSchema) -> Reader:
        read, count = schema.read, self._partition_count

        def reader(record: Any) -> tuple[Any, Any]:
            value = read(record, count)
            return record.key.decode(), value

        return reader

    def _faust_reader(self, schema: Any) -> Reader:
        app = self._app

        def reader(record: Any) -> tuple[Any, Any]:
            message = message_of(record)
            try:
                key = schema.loads_key(app, message)
                if record.value is None and schema.allow_empty:
                    return key, None
                return key, schema.loads_value(app, message)
            except (DecodeError, ValueError, TypeError, LookupError) as exc:
                raise RecordError(f"{type(exc).__name__}: {exc}") from exc

        return reader


def _identity(schema: Any) -> Any:
    """Schemas that decode alike are one; Faust makes a new object for each topic declaration."""
    if isinstance(schema, RecordSchema):
        return schema.codec.record_type
    return (schema.key_type, schema.value_type, schema.key_serializer, schema.value_serializer, type(schema))

"""From a fetched record to the agents: one route a topic, built anew with each assignment."""

from __future__ import annotations

from typing import Any

from faust.types.tuples import TP

from streamapp.driver.streams.delivery import DispatchedEvent, unread
from streamapp.driver.streams.faust_reader import FaustReader
from streamapp.driver.streams.inbox import Inbox
from streamapp.driver.streams.mailbox import Mailbox
from streamapp.driver.streams.schema import RecordSchema
from streamapp.engine.reader import Reader
from streamapp.engine.record import Record
from streamapp.engine.task import Task
from streamapp.engine.unit import Unit
from streamapp.eos.partitioner import DEFAULT
from streamapp.errors import is_the_events

#: Records that are read at once where one agent takes the events of a topic.
_AHEAD = 64


class TopicDispatcher:
    """The channels that subscribe to one topic; those with the same schema share what was decoded."""

    def __init__(self, app: Any, topic: str, partition_count: int, channels: list[Any]) -> None:
        self._app = app
        self.topic = topic
        self.partition_count = partition_count
        self._readers: list[tuple[Reader, list[Any]]] = []
        by_schema: dict[Any, list[Any]] = {}
        for channel in channels:
            by_schema.setdefault(_identity(channel.schema), []).append(channel)
        for sharing in by_schema.values():
            self._readers.append((self._reader_of(sharing[0].schema), sharing))
        self._windowed = [table for table in app.windowed_tables if topic in table.topics]
        self.lanes = self.batch = 1
        #: How the one agent of the topic reads a record, and where it finds it; None where there is more to decide.
        self._reader: Reader | None = None
        self._mailbox: Mailbox | None = None
        for channel in channels:
            channel.routes.add(self)
        self.refresh()

    def refresh(self) -> None:
        """Look again at what the agents want: one has begun to take batches."""
        channels = [channel for _, sharing in self._readers for channel in sharing]
        self.batch = max((channel.batch for channel in channels), default=1)
        # A batch holds events of several keys, so where an agent takes batches nothing may run beside it.
        self.lanes = 1 if self.batch > 1 else max((channel.lanes for channel in channels), default=1)
        is_plain = len(channels) == self.lanes == self.batch == 1 and not self._windowed
        self._reader = self._mailbox = None
        if is_plain and channels[0].active_partitions is None:
            self._reader, self._mailbox = self._readers[0][0], channels[0].mailbox(0)

    def deliver(self, unit: Unit) -> None:
        """Decode everything first: a record that cannot be read must not have reached anybody."""
        records = unit.records
        if self._mailbox is not None:  # one agent takes its events one at a time: nothing to choose
            delivery = self._next(unit.task, records[0])
            if delivery.error is not None:
                raise delivery.error
            delivery.unit = unit
            unit.pending = 1
            self._mailbox.put(unit, delivery)
            return
        decoded = []
        for reader, channels in self._readers:
            decoded.append((_read_all(self._app, reader, unit), channels))
        for table in self._windowed:
            table.see(unit, [deliveries[0].value for deliveries, _ in decoded])
        waiting: list[tuple[Any, Any]] = []
        for deliveries, channels in decoded:
            for channel in channels:
                active = channel.active_partitions
                if active is not None and TP(self.topic, records[0].partition) not in active:
                    continue
                mailbox = channel.mailbox(unit.lane % channel.lanes if unit.lane else 0)
                if channel.batch > 1:
                    waiting.append((mailbox, deliveries))
                else:
                    waiting.extend([(mailbox, delivery) for delivery in deliveries])
        unit.pending = len(waiting)
        for mailbox, item in waiting:
            mailbox.put(unit, item)

    def _next(self, task: Task, record: Record) -> DispatchedEvent:
        """The delivery of a record, which was made ahead or is made now, together with those of the next records.

        To read has no effect, so it may come early; and many at once, one step after the other, keep a processor's
        caches warm. What is wrong with a record is said when it is its turn.
        """
        ahead = task.ahead
        if not ahead or ahead[0].record is not record:
            ahead.clear()
            ahead.append(self._read_one(record))
            for one in task.next_records(self.topic, _AHEAD - 1):
                ahead.append(self._read_one(one))
            inbox: Inbox | None = self._mailbox.inbox  # type: ignore[union-attr]
            if inbox is not None:
                inbox.look_ahead(task, ahead)
        found: DispatchedEvent = ahead.popleft()
        return found

    def _read_one(self, record: Record) -> DispatchedEvent:
        delivery = unread(self._app, record)
        try:
            delivery.key, delivery.value = self._reader.read(record)  # type: ignore[union-attr]
        except BaseException as exc:
            if not is_the_events(exc):
                raise
            delivery.error = exc
        return delivery

    def _reader_of(self, schema: Any) -> Reader:
        if isinstance(schema, RecordSchema):
            return schema.reader(self.partition_count, self._app.partitioners.get(self.topic, DEFAULT))
        return FaustReader(self._app, schema)


def _read_all(app: Any, reader: Reader, unit: Unit) -> list[DispatchedEvent]:
    """The deliveries of a unit's records. Raises what somebody's code raises for a record that nobody can read."""
    deliveries = []
    for record in unit.records:
        delivery = unread(app, record)
        delivery.key, delivery.value = reader.read(record)
        delivery.unit = unit
        deliveries.append(delivery)
    return deliveries


def _identity(schema: Any) -> Any:
    """Schemas that decode alike are one; Faust makes a new object for each topic declaration."""
    if isinstance(schema, RecordSchema):
        return (schema.codec.record_type, schema.allow_empty)
    kinds = (schema.key_type, schema.value_type, schema.key_serializer, schema.value_serializer)
    return (*kinds, schema.allow_empty, type(schema))

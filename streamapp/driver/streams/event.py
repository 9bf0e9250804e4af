"""An event as agents see it: Faust's, made cheaply from a fetched record."""

from __future__ import annotations

from typing import Any

from faust.events import Event as FaustEvent
from faust.types.tuples import TP, ConsumerMessage

from streamapp.engine.record import Record
from streamapp.engine.unit import Unit


class Event(FaustEvent):
    """Faust's `Event`; `message` and `headers` are made when they are asked for, because most agents never do.

    `unit` is what it belongs to. `request_commit()` is the manual acknowledgement: the commit follows as soon as the
    running events have finished.
    """

    def __init__(self, app: Any, key: Any, value: Any, record: Record, unit: Unit) -> None:
        self.app = app
        self.key = key
        self.value = value
        self.record = record
        self.unit = unit
        self.acked = False

    @property
    def message(self) -> Any:
        return message_of(self.record)

    @property
    def headers(self) -> Any:
        return dict(self.record.headers)

    @property
    def place(self) -> str:
        """Where it is in its topic, `<partition>-<offset>`: no other event of the topic is there, and a replay is."""
        return f"{self.record.partition}-{self.record.offset}"

    def ack(self) -> bool:
        """Nothing: an event is finished when the agent asks for the next one."""
        return True

    def request_commit(self) -> None:
        """Commit as soon as this and the other running events have finished."""
        self.app.engine.request_commit()


class ContextEvent(FaustEvent):
    """The event of a test context, where there is no commit to ask for."""

    @property
    def place(self) -> str:
        """As in a worker; the partition is 0 unless the test says which."""
        return f"{self.message.partition or 0}-{self.message.offset}"

    def request_commit(self) -> None:
        """Nothing."""


def message_of(record: Record) -> ConsumerMessage:
    """Faust's message of a fetched record; Kafka has no checksum of a record."""
    return ConsumerMessage(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp / 1000.0,
        record.timestamp_type,
        list(record.headers),
        record.key,
        record.value,
        None,
        -1 if record.key is None else len(record.key),
        -1 if record.value is None else len(record.value),
        TP(record.topic, record.partition),
    )

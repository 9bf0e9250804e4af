"""An event on its way to one agent: the event as people know it is made when somebody asks for it."""

from __future__ import annotations

from typing import Any

from streamapp.driver.streams.event import Event
from streamapp.engine.record import Record
from streamapp.engine.unit import Unit


class DispatchedEvent:
    """What was read of a record, for the agents that share a schema, and the unit it belongs to (None: not yet)."""

    __slots__ = ("_event", "app", "content", "error", "found", "found_at", "key", "mark", "record", "unit", "value")

    def __init__(self, app: Any, key: Any, value: Any, record: Record, unit: Unit | None) -> None:
        self.app = app
        self.key = key
        self.value = value
        self.record = record
        self.unit: Any = unit
        #: Why the record cannot be read.
        self.error: BaseException | None = None
        #: The key of its mark and the hash of its content, once the inbox has looked ahead.
        self.mark: bytes | None = None
        self.content: bytes | None = None
        #: The mark that lay in the store at its count `found_at` of changes; -1: nobody has looked.
        self.found: bytes | None = None
        self.found_at = -1
        self._event: Event | None = None

    def event(self) -> Event:
        """Faust's event, one and the same at each call."""
        if self._event is None:
            self._event = Event(self.app, self.key, self.value, self.record, self.unit)
        return self._event


def unread(app: Any, record: Record) -> DispatchedEvent:
    """A delivery whose record is still to be read: without a constructor's way through its arguments."""
    made: DispatchedEvent = DispatchedEvent.__new__(DispatchedEvent)
    made.app = app
    made.record = record
    made.key = made.value = made.unit = made.error = made.mark = made.content = made.found = made._event = None
    made.found_at = -1
    return made


def values_of(deliveries: list[DispatchedEvent]) -> list[Any]:
    """What the agent gets to see of them."""
    values = []
    for delivery in deliveries:
        values.append(delivery.value)  # noqa: PERF401 - the compiled loop has C fields
    return values

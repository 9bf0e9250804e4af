"""An event on its way to one agent: the event as people know it is made when somebody asks for it."""

from __future__ import annotations

from typing import Any

from streamapp.driver.event import Event
from streamapp.driver.record import Record
from streamapp.driver.unit import Unit


class Delivery:
    """What was read of a record, for the agents that share a schema, and the unit it belongs to."""

    __slots__ = ("_event", "app", "key", "record", "unit", "value")

    def __init__(self, app: Any, key: Any, value: Any, record: Record, unit: Unit) -> None:
        self.app = app
        self.key = key
        self.value = value
        self.record = record
        self.unit = unit
        self._event: Event | None = None

    def event(self) -> Event:
        """Faust's event, one and the same at each call."""
        if self._event is None:
            self._event = Event(self.app, self.key, self.value, self.record, self.unit)
        return self._event

"""Windowed tables: `app.Table(...).tumbling(...)` and `.hopping(...)`, by event time, in the event's transaction.

    totals = app.Table("totals").tumbling(60, grace=10, topic="payment").aggregate(count=Count()).upsert_to(topic)

    totals.add(payment.merchant_id, payment)        a record into every window it is in
    totals[payment.merchant_id] += payment.amount   Faust's way, for a table without aggregate()

A worker moves the watermark by every record of the table's topics before any agent has it (`see`), and closes what is
due then; what one unit leaves, and what a silence closes, is `window_closer.py`. Where the windows are kept, and what
closes them, is `streamapp/windows`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, NoReturn

from faust.streams import current_event
from faust.types import EventT

from streamapp.delivery import late
from streamapp.driver.streams.test_outputs import Output
from streamapp.driver.tables.window_declaration import WindowDeclaration, milliseconds
from streamapp.driver.tables.window_set import WindowSet
from streamapp.engine.failure import placed, room_of, source_of
from streamapp.engine.unit import Unit, UnitMisuse, current_unit
from streamapp.errors import ConfigurationError, RecordError
from streamapp.failpoints import failpoint
from streamapp.state import StoreTransaction, TablePartition
from streamapp.windows.logic import Added, WindowUpsert
from streamapp.windows.progress import NEVER
from streamapp.windows.rows import KEPT, OPEN, Rows, WindowRow, all_windows, progress_of, windows_of
from streamapp.windows.windowers import Window


class WindowValue(NamedTuple):
    """A window of a key as it is in the table; times in milliseconds since the epoch, `[start, end)`."""

    start: int
    end: int
    value: Any
    #: Upserts sent so far.
    revision: int
    #: Closed, and kept until its retention is over.
    final: bool


class WindowedTable(WindowDeclaration):
    """A table whose rows belong to windows of event time. Made by `Table.tumbling()` and `Table.hopping()`."""

    # --- what a worker does before the agents, and between events

    def see(self, unit: Unit, values: Iterable[Any]) -> None:
        """A record of its topics comes, read as one of `values`: move the watermark, and close what is due.

        `RecordError` for a time that windows cannot use. A record without the field is of another kind, and passes.
        """
        value = next((value for value in values if self._time.find(value) is not None), None)
        if value is None:
            return
        time = self._time.of(value)
        self._time.check_ahead(time, unit.records[0].appended)
        try:
            if len(unit.records) > 1:
                raise ConfigurationError(_BATCHES.format(table=self.name, topic=unit.records[0].topic))
            self._send_finals(unit, self.book.see(self._store_unit(unit), time))
        except ConfigurationError as exc:  # no agent has the event yet, so nobody else would end the worker
            self.app.engine.end(exc)

    def see_in_memory(self, items: list[Any]) -> None:
        """As `see`, for what comes in a test context."""
        event = items[0]
        if not isinstance(event, EventT) or self.app.engine is not None or event.message.topic not in self.topics:
            return
        if len(items) > 1:
            raise ConfigurationError(_BATCHES.format(table=self.name, topic=event.message.topic))
        if self._time.find(event.value) is not None:
            rows = self.table.rows_in_memory()
            self._send_finals(None, self.book.see(rows, self._time.of(event.value)))
            rows.merge()

    def silence(self) -> None:
        """In a test context: close what a silence of `WINDOW_IDLE` would."""
        if self.app.engine is not None:
            raise UnitMisuse("silence() is for tests. In a worker set STREAMAPP_WINDOW_IDLE.")
        rows = self.table.rows_in_memory()
        self._send_finals(None, self.book.silence(rows))
        rows.merge()

    def is_due(self, store: TablePartition) -> bool:
        """Whether a unit left something to be closed there."""
        return self.book.is_due(store.begin())

    def has_open(self, store: TablePartition) -> bool:
        """Whether a window is open there."""
        return progress_of(store.begin()).next_end != NEVER

    def close_in(self, unit: Unit, *, silent: bool) -> None:
        """In a unit of its own: close what is due, or after a silence what has begun."""
        rows = self._store_unit(unit)
        self._send_finals(unit, self.book.silence(rows) if silent else self.book.close(rows))

    def _store_unit(self, unit: Unit) -> StoreTransaction:
        try:
            return unit.store(unit.task.stores[self.name])
        except KeyError:
            raise ConfigurationError(
                f"Table {self.name}: its changelog has another number of partitions than {', '.join(self.topics)}, so "
                "a window would be in another partition than its events. Use the same number of partitions for these "
                "topics."
            ) from None

    def _send_finals(self, unit: Unit | None, upserts: list[WindowUpsert]) -> None:
        if not upserts:
            return
        try:
            for upsert in upserts:
                self._send(unit, upsert)
        except RecordError as exc:
            # Not the event's fault, and dead-lettering it would only hand the same window to the next one.
            raise ConfigurationError(
                f"Table {self.name}: the final of a window cannot be sent: {exc} Nothing of it is lost. Raise the "
                "topic's max.message.bytes, then start again."
            ) from exc
        if unit is not None:
            self.app.engine.count("windows_closed", sum(it.final and it.state is not None for it in upserts))

    # --- what agents do

    def add(self, key: Any, value: Any) -> None:
        """Add a record to every window of `key` that its event time is in, except those that are closed.

        What it is too late for goes to `<topic>-late`, once. Raises `RecordError` where it has no event time or
        cannot be added up, and `UnitMisuse` outside of an event of the table's topics.
        """
        aggregates = self._aggregates
        if aggregates is None:
            raise ConfigurationError(
                f"Table {self.name}: say what add() keeps: .aggregate(count=Count()). Without it: {self.name}[key] += 1"
            )
        time = self._time.of(value)
        self._fold(key, time, lambda state: aggregates.fold(state, value, time))

    def apply(self, key: Any, operation: Callable[[Any, Any], Any], operand: Any) -> None:
        """Set each window of `key` that the current event is in to `operation(value, operand)`."""
        if self._aggregates is not None:
            raise ConfigurationError(f"Table {self.name} has aggregate(): write {self.name}.add(key, record).")
        table = self.table

        def fold(state: Any) -> Any:
            return operation(table.__missing__(key) if state is None else state, operand)

        self._fold(key, self._time_of_event(), fold)

    def _time_of_event(self) -> int:
        event = current_event()
        if event is None:
            raise UnitMisuse(f"table {self.name} outside of an event: there is no event time to tell the window by.")
        return self._time.of(event.value)

    def _fold(self, key: Any, time: int, fold: Callable[[Any], Any]) -> None:
        rows = self.table.rows("adding to")
        unit = current_unit()
        if unit is not None:
            self._check(unit, time)
        raw_key = self.table.key_bytes(key)
        if self._upserts is not None:
            self._text(raw_key).encode()  # here it is the event's error, and not the closing's
        added = self.book.add(rows, raw_key, time, fold)
        for upsert in added.upserts:
            self._send(unit, upsert)
        if added.expired:
            self._set_aside(unit, added)
        if unit is None:
            rows.merge()

    def _check(self, unit: Unit, time: int) -> None:
        record = unit.records[0]
        if record.topic not in self.topics:
            raise UnitMisuse(
                f"Table {self.name} has windows of {' and '.join(self.topics)}; this is an event of {record.topic}, "
                'which does not move its watermark. Name the topic, too: .tumbling(..., topic=("a", "b")).'
            )
        if len(unit.records) > 1:
            raise ConfigurationError(_BATCHES.format(table=self.name, topic=record.topic))
        self._time.check_ahead(time, record.appended)

    def _send(self, unit: Unit | None, upsert: WindowUpsert) -> None:
        if self._upserts is None:
            return
        text = self._text(upsert.key)
        result = None if upsert.state is None else self._result(upsert.state)
        self._upserts.send_window(unit, text, upsert.window, result, upsert.revision, upsert.final)
        if upsert.final:
            failpoint("window.before_final")

    def check_final(self, key: bytes, window: Window, state: Any, size: int) -> None:
        if self._upserts is not None:
            self._upserts.check_final(self._text(key), window, lambda: self._result(state), size + len(key))

    def _text(self, raw_key: bytes) -> str:
        """A stored key as text, for upserts."""
        key = self.table.key_of(raw_key)
        return key if isinstance(key, str) else raw_key.decode()

    def _result(self, state: Any) -> dict[str, Any]:
        return {"value": state} if self._aggregates is None else self._aggregates.result(state)

    def _set_aside(self, unit: Unit | None, added: Added) -> None:
        """The record of the event to `<topic>-late`, once for this table."""
        if unit is None:
            event = current_event()
            if event is not None and self.app.outputs is not None:
                topic = event.message.topic + late.SUFFIX
                self.app.outputs.append(Output(topic, event.key, event.value, None, None))
            return
        source, topics = source_of(unit.records[0]), self.app.engine.producer.filling.topics
        room = room_of(topics, source.topic + late.SUFFIX)
        letter = late.late_record(source, self.name, added.expired, added.progress.watermark, size_max=room)
        unit.send((*placed(letter, topics), None))
        self.app.engine.count("late_records")

    # --- reading

    def windows(self, key: Any) -> list[WindowValue]:
        """The windows of a key in this task, by their end: open ones, and closed ones until their retention is over."""
        return self.windows_in(self.table.rows("reading"), key)

    def windows_in(self, rows: Rows, key: Any) -> list[WindowValue]:
        """As `windows`, from rows that somebody else has opened."""
        raw = self.table.key_bytes(key)
        return [
            self.shown(window, row, final)
            for kind, final in ((KEPT, True), (OPEN, False))
            for window, row in windows_of(rows, kind, raw)
        ]

    def items(self) -> Iterator[tuple[Any, WindowValue]]:
        """Every window of the task with its key: closed ones, then open ones, each by their end."""
        return self.items_in(self.table.rows("reading"))

    def items_in(self, rows: Rows) -> Iterator[tuple[Any, WindowValue]]:
        """As `items`, from rows that somebody else has opened."""
        for kind, final in ((KEPT, True), (OPEN, False)):
            for key, window, row in all_windows(rows, kind):
                yield self.table.key_of(key), self.shown(window, row, final)

    @property
    def has_aggregates(self) -> bool:
        """Whether a window's value is an object of named aggregates."""
        return self._aggregates is not None

    def shown(self, window: Window, row: WindowRow, final: bool) -> WindowValue:
        """A window's row for a reader."""
        state = self.book.load(row.state)
        value = state if self._aggregates is None else self._aggregates.result(state)
        return WindowValue(*window, value, row.revision, final)

    def value_at(self, key: Any, ago: Any = 0) -> Any:
        """The value of the last window to begin that the current event's time, `ago` seconds before, is in."""
        time = self._time_of_event() - milliseconds(ago, "ago")
        for window in sorted(self.windows(key), reverse=True):
            if window.start <= time < window.end:
                return window.value
        return None if self._aggregates is not None else self.table.__missing__(key)

    # --- Faust's way

    def __getitem__(self, key: Any) -> WindowSet:
        return WindowSet(self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        if not isinstance(value, WindowSet):  # what += leaves is one, and has been applied
            self.apply(key, _the_new_one, value)

    def __delitem__(self, key: Any) -> NoReturn:
        raise UnitMisuse(
            f"a window of {self.name} cannot be deleted: it is closed by event time, and kept for a while."
        )

    def __repr__(self) -> str:
        return f"<WindowedTable {self.name}>"


def _the_new_one(_: Any, new: Any) -> Any:
    return new


_BATCHES = (
    "Table {table} has windows of {topic}, whose events an agent takes in batches: what is late would depend on how "
    "they were batched. Take them one at a time: `async for event in stream`."
)

"""Upserts of a plain table: each row as it changes, or at most once in so many seconds, but its last value always.

    a change   the row has no mark             sent; marked as sent, with the time
               marked less than that ago       marked as held: the value is in the table and goes later
    a look     the mark is that old, held      the row is sent as it is now; marked as sent
               the mark is that old, not held  the mark is deleted

Marks are rows of a table of their own, written with the change: whoever owns the task next knows what is still to be
sent, and when. A clock decides which values between two upserts nobody gets to see, and nothing else.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import msgspec

from streamapp.driver.tables.upserts import Upserts
from streamapp.engine.unit import Unit, UnitMisuse, current_unit
from streamapp.errors import ConfigurationError, RecordError

#: Most marks that one look reads, and most rows it sends; the next one goes on.
LOOKED_AT_MAX, SENT_MAX = 5000, 1000
SUFFIX = "_upserts"


class HeldRow(NamedTuple):
    """That a row was sent, and whether it has changed since."""

    #: Wall clock, milliseconds since the epoch.
    sent_at: int
    held: bool

    def pack(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """The mark in `raw`, one of `pack`."""
        return msgspec.json.decode(raw, type=cls)

    def holds(self, now: int, every_ms: int) -> bool:
        """Whether the row must wait. A time in the future is another machine's clock, and holds nothing."""
        return 0 <= now - self.sent_at < every_ms


class Looked(NamedTuple):
    """What came of a look: the mark to go on at, if there are more, and whether anything was done."""

    go_on_at: bytes | None
    has_effects: bool


class RowUpserts:
    """What one table sends. `marks`: the table of its marks; None: every change is sent at once."""

    def __init__(
        self, table: Any, upserts: Upserts, *, marks: Any = None, every_ms: int = 0, tombstones: bool = True
    ) -> None:
        self.table = table
        self.marks = marks
        self.every_ms = every_ms
        self.topic = upserts.topic
        self._upserts = upserts
        self._tombstones = tombstones

    def changed(self, key: Any, raw_key: bytes, value: Any) -> None:
        """A row was set in the current unit, or deleted (`value` None): send it, or hold it.

        Raises `RecordError` for what the topic cannot take, also where it is held: the change is at fault, not the
        look that comes later.
        """
        if value is None and not self._tombstones:
            self._forget(raw_key)
            return
        unit, text = current_unit(), self._text(key, raw_key)
        self._upserts.judge(text, value)
        if self.marks is None:
            self._upserts.send(unit, text, value)
            return
        marks, now = self.marks.rows("writing"), self._now_ms()
        packed = marks.get(raw_key)
        mark = None if packed is None else HeldRow.unpack(packed)
        if mark is None or not mark.holds(now, self.every_ms):
            self._upserts.send(unit, text, value)
            marks.set(raw_key, HeldRow(now, held=False).pack())
        else:
            self._upserts.check(text, value)
            if not mark.held:
                marks.set(raw_key, mark._replace(held=True).pack())
        self.marks._written(marks)

    def _forget(self, raw_key: bytes) -> None:
        """The row is gone, and nobody is told: what is held of it is not to be sent either."""
        if self.marks is not None:
            marks = self.marks.rows("writing")
            if marks.get(raw_key) is not None:
                marks.delete(raw_key)
            self.marks._written(marks)

    def send_due(self, unit: Unit, start: bytes) -> Looked:
        """In a unit of its own, while nothing of its task runs: send what was held long enough, from `start` on."""
        stores = unit.task.stores
        return self._look(unit, unit.store(stores[self.marks.name]), unit.store(stores[self.table.name]), start)

    def send_held(self) -> None:
        """In a test context: send what is held, as if its time had come."""
        if self.table.app.engine is not None:
            raise UnitMisuse("send_held() is for tests. In a worker it goes by itself.")
        if self.marks is not None:
            marks = self.marks.rows_in_memory()
            self._look(None, marks, self.table.rows_in_memory(), b"", later_ms=self.every_ms)
            marks.merge()

    def _look(self, unit: Unit | None, marks: Any, rows: Any, start: bytes, later_ms: int = 0) -> Looked:
        now, sent, has_effects = self._now_ms() + later_ms, 0, False
        for looked, (raw_key, packed) in enumerate(marks.items(start=start)):
            if looked == LOOKED_AT_MAX or sent == SENT_MAX:
                return Looked(raw_key, has_effects)
            mark = HeldRow.unpack(packed)
            if mark.holds(now, self.every_ms):
                continue
            has_effects = True
            if mark.held:
                sent += 1
                self._send_as_it_is(unit, raw_key, rows.get(raw_key))
                marks.set(raw_key, HeldRow(now, held=False).pack())
            else:
                marks.delete(raw_key)
        return Looked(None, has_effects)

    def _send_as_it_is(self, unit: Unit | None, raw_key: bytes, raw: bytes | None) -> None:
        value = None if raw is None else self.table._load(raw)
        try:
            self._upserts.send(unit, self._text(self.table.key_of(raw_key, raw or b""), raw_key), value)
        except RecordError as exc:
            raise ConfigurationError(
                f"Table {self.table.name}: a row that was held back cannot be sent any more: {exc} Nothing of it is "
                "lost. Raise the topic's max.message.bytes, then start again."
            ) from exc

    @staticmethod
    def _text(key: Any, raw_key: bytes) -> str:
        return key if isinstance(key, str) else raw_key.decode()

    def _now_ms(self) -> int:
        return round(self.table.app._clock.now() * 1000)

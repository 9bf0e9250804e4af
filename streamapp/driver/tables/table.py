"""Tables of a task: Faust's `Table` over the transactional store, written with the event that writes them.

A value is a copy: to change it, set it again (`table[key] = value`). Keys and values have the bytes that Faust writes
into its changelogs, so a table that Faust filled is restored as it is.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import faust
import msgspec

from streamapp.codec import Codec
from streamapp.driver.tables.keys import SCALARS, SeenValues, TableKeys, readable
from streamapp.driver.tables.options import problems
from streamapp.driver.tables.row_upserts import SUFFIX, RowUpserts
from streamapp.driver.tables.upserts import Upserts
from streamapp.driver.tables.window_declaration import milliseconds
from streamapp.driver.tables.windowed import WindowedTable
from streamapp.engine.unit import UnitMisuse, current_unit, required_unit
from streamapp.errors import ConfigurationError
from streamapp.state import MemoryState, StoreIdentity, StoreTransaction, TablePartition
from streamapp.topics import MAX_RECORD_BYTES
from streamapp.windows.windowers import Hopping, Tumbling

_MISSING: Any = object()
#: Text whose JSON is itself between quotes: what `json.dumps` makes of it, without the call.
_PLAIN = re.compile(r"[ !#-\[\]-~]*").fullmatch


class Table(faust.Table):
    """A table whose rows belong to the task of the event that wrote them.

    `value_type` may be a `msgspec.Struct`. Outside of a worker (a test context, a script) it lives in memory.

    A row's value is a copy: set it to change the row. `table[key].append(item)` changes the copy alone and is lost;
    `table[key] = [*table[key], item]` is kept.
    """

    logger = logging.getLogger("faust.tables")

    def __init__(self, app: Any, *, value_type: Any = None, partitions: int | None = None, **options: Any) -> None:
        for problem in problems(options):
            app.refuse(problem)
        is_struct = isinstance(value_type, type) and issubclass(value_type, msgspec.Struct)
        super().__init__(app, value_type=None if is_struct else value_type, partitions=partitions, **options)
        self._keys: TableKeys | None = None
        if is_struct:
            codec = Codec(value_type)
            self._dump: Callable[[Any], bytes] = codec.encode
            self._load: Callable[[bytes], Any] = codec.load
        else:
            self._dump = self._faust_dump
            self._load = self._faust_load
        self._plain_values = value_type is None
        self._seen = SeenValues(value_type) if is_struct else None
        self._plain_keys = self.key_type is None and self.key_serializer == "json"
        self._in_memory: TablePartition | None = None
        #: Its windows, if it has any: rows are theirs then.
        self.windowed: WindowedTable | None = None
        self._upserts: RowUpserts | None = None

    @property
    def changelog_topic_name(self) -> str:
        """Faust's name of the changelog: `<app id>-<table>-changelog`."""
        return self._changelog_topic_name()

    # --- bytes

    def _faust_dump(self, value: Any) -> bytes:
        return self.app.serializers.dumps_value(self.value_type, value, serializer=self.value_serializer)

    def _faust_load(self, raw: bytes) -> Any:
        return self.app.serializers.loads_value(self.value_type, raw, serializer=self.value_serializer)

    def key_bytes(self, key: Any) -> bytes:
        """The key as it is in the store and in the changelog."""
        if type(key) is str and self._plain_keys and _PLAIN(key):
            return f'"{key}"'.encode()
        return self._key_form.dump(key)

    def key_of(self, raw: bytes, value: bytes = b"") -> Any:
        """A stored key as the agent wrote it; `value`: the stored value of its row."""
        return self._key_form.load(raw, value)

    @property
    def _key_form(self) -> TableKeys:
        if self._keys is None:  # the app's serializers are not there while tables are declared
            self._keys = TableKeys(self.name, self.app.serializers, self.key_type, self.key_serializer)
        return self._keys

    def value_bytes(self, key: Any, raw_key: bytes, value: Any) -> bytes:
        """The value as it is in the store. `RecordError` where it could not be read again."""
        raw = self._dump(value)
        if self._seen is not None:
            look = self._seen.look(value)
            if look is None or not self._seen.knows(look):
                raw = readable(self.name, value, raw, self._load)
                self._seen.read(look)
        elif not (self._plain_values and type(value) in SCALARS):
            raw = readable(self.name, value, raw, self._load)
        return raw if type(key) is str else raw + self._key_form.mark(key, raw_key)

    def _found(self, rows: StoreTransaction, key: Any, raw_key: bytes) -> bytes | None:
        """The stored value. `RecordError` where the row is another key's."""
        value = rows.get(raw_key)
        if value is not None and (type(key) is not str or value[-1:] == b" "):
            self._key_form.check(key, raw_key, value)
        return value

    # --- the task's rows

    def rows(self, doing: str) -> StoreTransaction:
        """The task's rows as the current unit sees and changes them; `doing` names what is refused outside of one."""
        unit = current_unit()
        if unit is None:
            if self.app.engine is None:
                return self.rows_in_memory()
            unit = required_unit(f"{doing} table {self.name}")
        if unit.task is None:
            raise UnitMisuse(
                f"{doing} table {self.name} in a timer: rows belong to the task of an event, and a timer has none. "
                "Send a record to a topic whose agent does it."
            )
        store = unit.task.stores.get(self.name)
        if store is None:
            raise ConfigurationError(
                f"{doing} table {self.name} for an event of {unit.records[-1].topic}, which has another number of "
                "partitions: the event's rows would be somewhere else. Give both one number (`app.Table(..., "
                "partitions=...)` when the changelog is made), or group_by() the events into a topic that has the "
                "table's. Nothing of the event was done."
            )
        return unit.store(store)

    def _memory(self) -> TablePartition:
        if self._in_memory is None:
            self._in_memory = MemoryState().open_partition(StoreIdentity(self.app.conf.id, self.name, 0, ""))
            self._in_memory.bytes_max = MAX_RECORD_BYTES
        return self._in_memory

    def rows_in_memory(self) -> StoreTransaction:
        """A unit of its own, for contexts without a worker."""
        return self._memory().begin()

    def forget(self) -> None:
        """Empty the table in memory, for the next test context."""
        self._in_memory = None

    def _written(self, rows: StoreTransaction) -> None:
        if self.app.engine is None:
            rows.merge()

    def __getitem__(self, key: Any) -> Any:
        raw = self._found(self.rows("reading"), key, self.key_bytes(key))
        return self.__missing__(key) if raw is None else self._load(raw)

    def get(self, key: Any, default: Any = None) -> Any:
        """The value, or `default`; the table's own default is not asked."""
        raw = self._found(self.rows("reading"), key, self.key_bytes(key))
        return default if raw is None else self._load(raw)

    def __contains__(self, key: Any) -> bool:
        return self._found(self.rows("reading"), key, self.key_bytes(key)) is not None

    def __setitem__(self, key: Any, value: Any) -> None:
        rows, raw = self.rows("writing"), self.key_bytes(key)
        if type(key) is not str:
            self._found(rows, key, raw)
        rows.set(raw, self.value_bytes(key, raw, value))
        if self._upserts is not None:
            self._upserts.changed(key, raw, value)
        self._written(rows)

    def __delitem__(self, key: Any) -> None:
        rows, raw = self.rows("writing"), self.key_bytes(key)
        if self._found(rows, key, raw) is None:
            raise KeyError(key)
        self._remove(rows, key, raw)

    def _remove(self, rows: StoreTransaction, key: Any, raw: bytes) -> None:
        rows.delete(raw)
        if self._upserts is not None:
            self._upserts.changed(key, raw, None)
        self._written(rows)

    def pop(self, key: Any, default: Any = _MISSING) -> Any:
        """Remove a row and return its value."""
        value = self.get(key, _MISSING)
        if value is _MISSING:
            if default is _MISSING:
                raise KeyError(key)
            return default
        del self[key]
        return value

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """The value; where there is none, `default`, which is then stored."""
        value = self.get(key, _MISSING)
        if value is _MISSING:
            self[key] = value = default
        return value

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set several rows."""
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Rows of the task in the order of their key bytes."""
        for key, raw in self.rows("reading").items():
            yield self.key_of(key, raw), self._load(raw)

    def keys(self) -> Iterator[Any]:
        """Keys of the task."""
        return (self.key_of(key, raw) for key, raw in self.rows("reading").items())

    def values(self) -> Iterator[Any]:
        """Values of the task."""
        return (value for _, value in self.items())

    def __iter__(self) -> Iterator[Any]:
        return self.keys()

    def __len__(self) -> int:
        """Rows of the task; counts them all."""
        return sum(1 for _ in self.rows("reading").items())

    def __bool__(self) -> bool:
        return True

    def clear(self) -> None:
        """Delete every row of the task."""
        for raw_key, raw in list(self.rows("reading").items()):
            self._remove(self.rows("writing"), self.key_of(raw_key, raw), raw_key)

    def popitem(self) -> tuple[Any, Any]:
        for raw_key, raw in self.rows("reading").items():
            key, value = self.key_of(raw_key, raw), self._load(raw)
            self._remove(self.rows("writing"), key, raw_key)
            return key, value
        raise KeyError(f"table {self.name} is empty")

    # --- upserts and windows

    def upsert_to(self, topic: Any, *, emit_every: Any = 0, final_only: bool = False, tombstones: bool = True) -> Table:
        """Send each row to `topic` when it is set, under its key, and a null value when it is deleted.

        `emit_every`: each row at most once in so many seconds, the first change at once and the last one always; its
        marks are in a table of their own, `<table>_upserts`. `tombstones=False`: no null values. `final_only` is for
        tables with windows, and refused.
        """
        if final_only:
            self.app.refuse(
                f"Table {self.name}: final_only= is for windows. A row of a plain table is never closed, so there is "
                "no last upsert of it. Write emit_every= for fewer of them."
            )
        marks, every_ms = None, milliseconds(emit_every, "emit_every")
        if every_ms:
            marks = Table(
                self.app,
                name=self.name + SUFFIX,
                key_type=self.key_type,
                help=f"Rows of {self.name} that were sent of late, and whether they have changed since",
            )
            self.app.tables.add(marks)
        upserts = Upserts(self.app, topic)
        self._upserts = RowUpserts(self, upserts, marks=marks, every_ms=every_ms, tombstones=tombstones)
        self.app.upsert_topics.add(upserts.topic)
        if marks is not None:
            self.app.limited_upserts.append(self._upserts)
        return self

    def send_held(self) -> None:
        """In a test context: send the rows that `emit_every` holds back, as if their time had come."""
        if self._upserts is not None:
            self._upserts.send_held()

    def tumbling(self, size: Any, expires: Any = None, key_index: bool = False, **options: Any) -> Any:
        """Windows of `size` seconds (or a timedelta), one after the other, by event time; see `hopping`."""
        return self._windowed(Tumbling(milliseconds(size, "size")), expires, key_index, **options)

    def hopping(self, size: Any, step: Any, expires: Any = None, key_index: bool = False, **options: Any) -> Any:
        """Windows of `size` seconds that begin every `step` seconds, by event time.

        `topic`: whose events they are of, a name or several. `grace`: how late a record may be. `retention`: how long a
        closed window stays readable; by default its size. `idle`: a silence that closes windows, by default
        `WINDOW_IDLE`. All in seconds. Raises `ConfigurationError` for windows that cannot be.
        """
        kind = Hopping(milliseconds(size, "size"), milliseconds(step, "step"))
        return self._windowed(kind, expires, key_index, **options)

    def _windowed(
        self,
        kind: Hopping,
        expires: Any,
        key_index: bool,
        *,
        topic: Any = (),
        grace: Any = 0,
        retention: Any = None,
        idle: float | None = None,
    ) -> WindowedTable:
        if expires is not None:
            self.app.refuse(
                f"Table {self.name}: expires= counts in the wall clock. Write grace= for how late a record may be, and "
                "retention= for how long a closed window is kept, both in event time."
            )
        if key_index:
            self.app.refuse(f"Table {self.name}: key_index= is not needed: items() works without it. Leave it out.")
        named = [topic] if isinstance(topic, str) else getattr(topic, "topics", topic)
        self.windowed = WindowedTable(
            self,
            kind,
            tuple(named),
            milliseconds(grace, "grace"),
            kind.size_ms if retention is None else milliseconds(retention, "retention"),
            self.app.settings.window_idle if idle is None else idle,
        )
        return self.windowed

    def using_window(self, window: Any, *, key_index: bool = False) -> Any:
        """Refused: Faust closes such windows by the wall clock, and its close callback is not called reliably."""
        self.app.refuse(
            f"Table {self.name}: Faust's window objects are closed by the wall clock and lose their last result. "
            'Write .tumbling(size, topic="...") or .hopping(size, step, topic="...").'
        )
        return self

    def on_recover(self, fun: Any) -> Any:
        """Refused."""
        self.app.refuse(
            f"Table {self.name}: on_recover is never called. Instead: look at the table in the agent, whose "
            "first event comes when the table is complete."
        )
        return fun

    def __reduce__(self) -> Any:
        raise TypeError("a table cannot be copied: it is a view of its task's store")

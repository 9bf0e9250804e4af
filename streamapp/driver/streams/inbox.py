"""`@inbox` and `inbox(stream)`: an event of the same id has no second effect.

    @app.agent(transfers)
    @inbox(aggregate_type="TRANSFER", event_type="TRANSFER_POST", aggregate_id="from_account")
    async def post(stream): ...

The stream asks its inbox before it hands out an event, in the same turn of its loop. The mark is staged in the unit
with everything else the event does; when an agent raises, a FAILED mark goes with the dead letter instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, Protocol

import msgspec
from faust.agents.agent import current_agent
from faust.types import AgentT, StreamT

from streamapp import failpoints
from streamapp.arming import ARMED
from streamapp.delivery.inbox import (
    CONFLICT_KIND,
    NO_KEY_KIND,
    STAMP_MAX_S,
    TABLE,
    Fields,
    InboxStatus,
    InboxVerdict,
    Mark,
    attempts_of,
    judge,
    mark_key,
    packed_mark,
)
from streamapp.driver.streams.delivery import DispatchedEvent
from streamapp.engine.record import Record
from streamapp.engine.task import Task
from streamapp.engine.unit import Unit
from streamapp.eos.partitioner import DEFAULT
from streamapp.errors import ConfigurationError, RecordError, StreamAppError
from streamapp.state.overlay import UnitEnded
from streamapp.state.partition import TablePartition
from streamapp.state.unit import StoreTransaction

#: Looked up once: an enumeration's members are slow to get at.
_PROCESSED = InboxStatus.PROCESSED


class Rule:
    """What an inbox goes by: names of the pattern, and the fields that make id and content."""

    def __init__(
        self,
        aggregate_type: str,
        event_type: str,
        event_id: str | tuple[str, ...],
        aggregate_id: str | None,
        content: tuple[str, ...] | None,
    ) -> None:
        self.aggregate_type = aggregate_type
        self.event_type = event_type
        self.aggregate_id = aggregate_id
        self.fields = Fields(event_id, content)

    def check(self, record_type: Any, where: str) -> None:
        """Raise `ConfigurationError` for a field that the topic's records do not have, where they are declared."""
        declared = getattr(record_type, "__struct_fields__", None)
        if declared is not None:
            self.fields.check(declared, where, (self.aggregate_id,) if self.aggregate_id else ())
            fields = msgspec.structs.fields(record_type)
            self.fields.optional = frozenset(field.name for field in fields if field.default is None)


class Marks(Protocol):
    """The table of marks, as an inbox sees it."""

    retention_s: float

    def rows_in_memory(self) -> StoreTransaction:
        """The marks of a test context, where no worker runs."""


class Inbox:
    """The inbox of one agent, on the stream it iterates."""

    def __init__(self, rule: Rule, table: Marks, agent: str) -> None:
        self.rule = rule
        self.agent = agent
        self._table = table
        self._fields = rule.fields

    def look_ahead(self, task: Task, deliveries: Iterable[DispatchedEvent]) -> None:
        """Compute mark keys, content hashes and stored marks of many events at once; `admit` then finds them ready.

        That keeps a processor's caches warm, and decides nothing. What cannot be had is left to `admit`.
        """
        store = task.stores.get(TABLE)
        if store is None:
            return
        agent, fields = self.agent, self._fields
        asked, marks = [], []
        for delivery in deliveries:
            if delivery.error is None:
                try:
                    delivery.mark = mark = mark_key(agent, delivery.record.key, fields.id_of(delivery.value))
                except Exception:  # noqa: BLE001, S112 - whatever it is, it is raised again by `admit`
                    continue
                asked.append(delivery)
                marks.append(mark)
        try:
            for delivery in asked:
                try:
                    delivery.content = fields.hash_of(delivery.value)
                except Exception:  # noqa: BLE001, S112 - as above
                    continue
            version = store.version
            found = store.read_all(marks)
            for at, delivery in enumerate(asked):
                delivery.found = found[at]
                delivery.found_at = version
        except (StreamAppError, UnitEnded):
            return

    def admit_all(self, unit: Unit, deliveries: list[DispatchedEvent]) -> list[DispatchedEvent]:
        """Those of a batch that are to run, as by `admit`."""
        self.look_ahead(unit.task, deliveries)
        store = self._store(unit)
        rows, version = unit.store(store), store.version
        fresh = []
        for delivery in deliveries:
            if self._admit(unit, rows, version, delivery):
                fresh.append(delivery)  # noqa: PERF401 - the compiled loop calls C
        return fresh

    def admit(self, unit: Unit, delivery: DispatchedEvent) -> bool:
        """True: the event is to run, and its mark is staged. False: a duplicate.

        Raises `RecordError` (`EventIdConflict`) when the same id came with other content, and for a missing id.
        """
        store = self._store(unit)
        return self._admit(unit, unit.store(store), store.version, delivery)

    def _store(self, unit: Unit) -> TablePartition:
        """Where the unit's marks are."""
        task: Task = unit.task
        store = task.stores.get(TABLE)
        if store is None:
            raise ConfigurationError(
                f"{self.agent} began to use its inbox after its partitions were assigned, or {unit.records[0].topic} "
                "has another number of partitions than the inbox. Use the decorator @inbox above the agent's function."
            )
        return store

    def _admit(self, unit: Unit, rows: StoreTransaction, version: int, delivery: DispatchedEvent) -> bool:
        record, value = delivery.record, delivery.value
        key = delivery.mark
        if not record.key:
            self._refuse_scattered(unit, record, delivery.app)
        if key is None:
            key = mark_key(self.agent, record.key, self._fields.id_of(value))
        content = delivery.content
        if content is None:
            content = self._fields.hash_of(value)
        raw = rows.get_over(key, delivery.found) if delivery.found_at == version else rows.get(key)
        mark = self._fresh(rows, key, content, raw, record.appended // 1000)
        if mark is None:
            delivery.app.engine.count("duplicates")
            return False
        entry = (self.agent, key, mark)
        if unit.entries is None:
            unit.entries = [entry]
        else:
            unit.entries.append(entry)
        return True

    def _refuse_scattered(self, unit: Unit, record: Record, app: Any) -> None:
        """`RecordError` for a record without a key, or with an empty one that its partitioner puts anywhere."""
        count = unit.task.routes[record.topic].partition_count
        if count == 1:
            return
        partitioner = app.partitioners.get(record.topic, DEFAULT)
        is_away = record.key is None and partitioner.partition_for(None, count, 0) != record.partition
        if is_away or partitioner.scatters(record.key):
            raise RecordError(
                f"the record has {'no' if record.key is None else 'an empty'} key, and {record.topic} has several "
                f"partitions: a repeat lies in any of them, where {self.agent} has no mark of it. Send it with a key.",
                kind=NO_KEY_KIND,
            )

    def _fresh(
        self, rows: StoreTransaction, key: bytes, content: bytes, raw: bytes | None, appended_s: int
    ) -> bytes | None:
        """Stage the mark of an event that is to run and return it packed; None for a duplicate. `raw`: its mark now."""
        attempts = 1
        if raw is not None:
            found = Mark.unpack(raw)
            verdict = judge(found, content, appended_s, self._table.retention_s)
            if verdict is InboxVerdict.DUPLICATE:
                return None
            if verdict is InboxVerdict.CONFLICT:
                raise RecordError(
                    f"{self.agent} has processed another event of this id: {key.decode()}. The first one stands.",
                    kind=CONFLICT_KIND,
                )
            attempts = attempts_of(found)
        mark = packed_mark(_PROCESSED, attempts, appended_s, content)
        if ARMED.on:
            failpoints.failpoint("inbox.before_mark")
        rows.set(key, mark)
        if ARMED.on:
            failpoints.failpoint("inbox.after_mark")
        return mark

    # --- without a worker (`test_context.py`)

    def admit_in_memory(self, events: Iterable[Any], agent: str | None) -> list[tuple[Any, bytes, bytes]]:
        """The events that are to run, each with its key and final mark; until then the marks say FAILED."""
        rows, admitted = self._table.rows_in_memory(), []
        for event in events:
            record_key = event.key.encode() if isinstance(event.key, str) else event.key
            key = mark_key(agent or self.agent, record_key, self._fields.id_of(event.value))
            content = self._fields.hash_of(event.value)
            mark = self._fresh(
                rows, key, content, rows.get(key), max(0, min(int(event.message.timestamp), STAMP_MAX_S))
            )
            if mark is not None:
                admitted.append((event, key, mark))
        for _, key, mark in admitted:
            rows.set(key, Mark.unpack(mark)._replace(status=InboxStatus.FAILED).pack())
        rows.merge()
        return admitted

    def processed_in_memory(self, admitted: list[tuple[Any, bytes, bytes]]) -> None:
        """The agent is done with these events."""
        rows = self._table.rows_in_memory()
        for _, key, mark in admitted:
            rows.set(key, mark)
        rows.merge()


def inbox(
    stream: Any = None,
    /,
    *,
    aggregate_type: str,
    event_type: str,
    event_id: str | tuple[str, ...] = "event_id",
    aggregate_id: str | None = None,
    content: tuple[str, ...] | None = None,
) -> Any:
    """A decorator below `@app.agent`, or, given a stream, the same stream without events that were processed before.

    `aggregate_type` and `event_type` name what happens here (`TRANSFER`, `TRANSFER_POST`: the receiver's action).
    `event_id`: the field, or the fields, that two records have in common only if one repeats the other. One whose
    declared default is None may be missing, and is then no part of the id: so an id can get a field, and marks stay.
    `content`: the fields that must then be equal; None: all declared ones. Name them if the record type will grow: a
    field that is added changes the hash of every repeat that is still to come.
    Raises `ConfigurationError` for fields the record type does not have.
    """
    rule = Rule(aggregate_type, event_type, event_id, aggregate_id, content)
    if stream is not None:
        return guarded(stream, rule)
    return lambda fun: _decorated(fun, rule)


def _decorated(fun: Any, rule: Rule) -> Callable[..., Any]:
    if isinstance(fun, AgentT):
        raise ConfigurationError(f"{fun.name}: @app.agent stands above @inbox, so that the agent has the inbox.")

    @wraps(fun)
    def with_inbox(stream: Any, *args: Any, **kwargs: Any) -> Any:
        return fun(guarded(stream, rule), *args, **kwargs)

    with_inbox.inbox_rule = rule  # type: ignore[attr-defined]
    return with_inbox


def guarded(stream: Any, rule: Rule) -> Any:
    """Give `stream` the inbox; it is iterated as before (also by `items()`, `events()` and `take()`)."""
    if not isinstance(stream, StreamT):
        raise ConfigurationError(
            f"inbox() needs a stream, not {type(stream).__name__}: give it the stream and take(), items() or events() "
            "from what it returns."
        )
    app: Any = stream.app
    codec = getattr(getattr(stream.channel, "schema", None), "codec", None)
    rule.check(getattr(codec, "record_type", None), stream.prefix or rule.event_type)
    table = app.use_inbox()
    table.streamed.update(getattr(stream.channel, "topics", ()))
    agent = current_agent()
    name = stream.prefix or (agent.name if agent is not None else f"{rule.aggregate_type}/{rule.event_type}")
    stream.inbox = Inbox(rule, table, name)
    return stream

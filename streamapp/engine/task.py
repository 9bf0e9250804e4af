"""A task: the same partition number of co-partitioned topics. One event at a time, in the order they were fetched.

Synchronous throughout: a finished event starts the next one without a turn of the event loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Protocol

from streamapp.engine.gate import Gate
from streamapp.engine.input import Input
from streamapp.engine.record import Record
from streamapp.engine.unit import Unit
from streamapp.errors import RecordError, is_the_events
from streamapp.state.partition import TablePartition
from streamapp.types import Partition


class Route(Protocol):
    """Where the events of one topic go: every agent that subscribes to it."""

    @property
    def lanes(self) -> int:
        """How many events of the topic may run at once, one a key (`concurrency` of its agents)."""

    @property
    def batch(self) -> int:
        """Most events of one unit; above 1 where an agent takes batches."""

    @property
    def partition_count(self) -> int:
        """How many partitions the topic has."""

    def deliver(self, unit: Unit) -> None:
        """Decode the unit's records and hand them to the agents. Raises what a record makes somebody's code raise."""


class Work(Protocol):
    """Whom a task hands its units back to."""

    def finished(self, unit: Unit) -> None:
        """The unit's effects are to be merged."""

    def failed(self, unit: Unit, error: BaseException) -> None:
        """Nobody can read the unit's record, or an agent raised."""

    def refusal(self, record: Record) -> RecordError | None:
        """Why the broker refused what this record led to; None if it did not."""

    def waiting(self) -> None:
        """Records wait for a batch to fill up; the next commit takes them as they are."""

    def has_room(self, partition: Partition) -> None:
        """An input that was full has room for more."""


class Task:
    """The buffer, the running units and the inputs of one partition number."""

    def __init__(self, number: int, gate: Gate, work: Work, routes: dict[str, Route]) -> None:
        self.number = number
        self.routes = routes
        self.inputs: dict[Partition, Input] = {}
        #: Table name -> the task's partition of it.
        self.stores: dict[str, TablePartition] = {}
        #: Number of the next intent, and whether so many wait that events must wait too.
        self.intent_number = 0
        self.held = False
        #: What a route read ahead of the records at the front of the buffer; it is the route's.
        self.ahead: deque[Any] = deque()
        self._by_topic: dict[str, Input] = {}
        self._buffer: deque[Record] = deque()
        self._running: dict[int, Unit] = {}
        self._singles = 0
        self._flushing = False
        self._advancing = False
        self._stopped = False
        self.gate = gate
        self._work = work

    def __len__(self) -> int:
        return len(self._buffer)

    def read_from(self, partition: Partition, offset: int) -> None:
        """Add an input partition; its first record to come is the one at `offset`."""
        self.inputs[partition] = self._by_topic[partition.topic] = Input(partition, offset)

    def next_records(self, topic: str, most: int) -> list[Record]:
        """Up to so many records of one topic that are the next to start; they stay where they are."""
        records = []
        for record in islice(self._buffer, most):
            if record.topic != topic:
                break
            records.append(record)
        return records

    @property
    def running(self) -> Iterable[Unit]:
        """Units that have started and not finished."""
        return self._running.values()

    def add(self, partition: Partition, records: list[Record]) -> None:
        """Take fetched records; start the next unit if none runs."""
        self._buffer.extend(records)
        self._by_topic[partition.topic].buffered += len(records)
        self.advance()

    def push_back(self, records: list[Record]) -> None:
        """Put the records of a failed batch in front again, to be run one at a time."""
        self._buffer.extendleft(reversed(records))
        self.ahead.clear()
        for record in records:
            it = self._input(record.topic)
            it.buffered += 1
        self._singles = len(records)

    def flush(self) -> None:
        """Start what waits for a batch to fill up: a commit is due."""
        self._flushing = True
        self.advance()

    def advance(self) -> None:
        """Start what may start: nothing behind a closed gate, and no second event of one lane.

        An event that fails at once finishes in here, which calls this again: the call that runs goes on with the next
        one, so that a long run of bad records needs no deep stack.
        """
        if self._advancing:
            return
        self._advancing = True
        try:
            self._start_next()
        finally:
            self._advancing = self._flushing = False

    def _start_next(self) -> None:
        buffer, gate = self._buffer, self.gate
        while buffer and gate.is_open and not self.held and not self._stopped:
            record = buffer[0]
            route = self.routes[record.topic]
            lane = 0 if route.lanes == 1 else 1 + hash(record.key) % route.lanes
            if self._running and (lane in self._running or 0 in self._running or lane == 0):
                return
            most = 1 if gate.single else route.batch
            if most > 1 and len(buffer) < most and not self._flushing and not self._singles:
                self._work.waiting()
                return
            self._start(lane, route, self._take_records(most))

    def _take_records(self, most: int) -> list[Record]:
        buffer = self._buffer
        record = buffer.popleft()
        records, topic = [record], record.topic
        if self._singles:
            self._singles -= 1
        elif most > 1:
            while len(records) < most and buffer and buffer[0].topic == topic:
                records.append(buffer.popleft())
        it = self._input(topic)
        it.buffered -= len(records)
        if it.buffered <= it.room_at:
            it.room_at = -1
            self._work.has_room(it.partition)
        return records

    def _input(self, topic: str) -> Input:
        return self._by_topic[topic]

    def _start(self, lane: int, route: Route, records: list[Record]) -> None:
        unit = Unit(self, records, lane)
        self._running[lane] = unit
        self.gate.enter()
        refusal = self._work.refusal(records[0]) if self.gate.single else None
        try:
            if refusal is not None:
                raise refusal
            route.deliver(unit)
        except BaseException as exc:
            if not is_the_events(exc):
                raise
            self._work.failed(unit, exc)

    def finish(self, unit: Unit) -> None:
        """All agents are done with the unit, or it was replaced by its dead letter."""
        unit.live = False
        last = unit.records[-1]
        self._input(last.topic).passed(last)
        self._work.finished(unit)
        del self._running[unit.lane]
        self.gate.leave()
        self.advance()

    def retry(self, unit: Unit) -> None:
        """The unit failed as a batch: forget it and run its records again, one at a time."""
        unit.give_up()
        self.push_back(unit.records)
        del self._running[unit.lane]
        self.gate.leave()
        self.advance()

    def append_time(self, at_end: Callable[[Partition], bool]) -> tuple[int, int] | None:
        """How far append time has come: the newest of what has finished, and the oldest still to come, in seconds.

        Stores with a retention let go of what is older. A partition that lags behind holds it back: what it is still
        to bring must find its marks. None: nothing has finished yet.
        """
        times = [it.append_time for it in self.inputs.values() if it.has_finished]
        if not times:
            return None
        newest = oldest = max(times)
        for it in self.inputs.values():
            if it.buffered or not at_end(it.partition):
                oldest = min(oldest, it.append_time)
        return newest // 1000, oldest // 1000

    @property
    def is_quiet(self) -> bool:
        """Whether nothing of it runs, and what is done in its tables now interferes with no event."""
        return not self._running and not self._stopped

    def stop_starting(self) -> None:
        """Start nothing more. What was fetched stays counted, so that no commit goes past it."""
        self._stopped = True

    def give_up(self) -> None:
        """The transaction is gone: drop running units and everything fetched."""
        for unit in self._running.values():
            unit.give_up()
        self._running.clear()
        self._buffer.clear()
        self.ahead.clear()
        self._singles = 0
        for it in self.inputs.values():
            it.forget()

"""What was fetched and waits for its task is bounded: in records a partition, and in bytes a worker."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from streamapp.clock import SYSTEM_CLOCK
from streamapp.engine.gate import Gate
from streamapp.engine.group import BUFFER_BYTES, BUFFER_HIGH, GroupConsumer, room
from streamapp.engine.record import Record
from streamapp.engine.task import Task
from streamapp.engine.unit import Unit
from streamapp.types import Partition

A, B = Partition("transfer", 0), Partition("transfer", 1)


def records(count: int, size: int) -> list[Record]:
    return [Record("transfer", 0, offset, 0, None, bytes(size)) for offset in range(count)]


class Route:
    """Takes so many records a unit, and notes the unit instead of running it."""

    lanes = 1

    def __init__(self) -> None:
        self.batch = 1
        self.unit: Unit | None = None

    def deliver(self, unit: Unit) -> None:
        self.unit = unit


class Worker:
    """A consumer over two tasks, and a member and an engine that note what they are told."""

    def __init__(self) -> None:
        self.woken = 0
        self.gate, self.route = Gate(), Route()
        self.tasks = {at: Task(at.number, self.gate, self, {at.topic: self.route}) for at in (A, B)}  # type: ignore[dict-item, arg-type]
        for at, task in self.tasks.items():
            task.read_from(at, 0)
        member: Any = SimpleNamespace(assignment=lambda: {A, B}, wake=self._wake, resume=print, seek=print)
        engine: Any = SimpleNamespace(
            owned=SimpleNamespace(),
            owners=self.tasks,
            gate=SimpleNamespace(running=0),
            waiting=lambda: None,
            arrived=lambda: None,
        )
        self._consumer = GroupConsumer(member, engine, SYSTEM_CLOCK, prepare=self._prepare, crash=print)

    async def _prepare(self, partitions: Any) -> Any:
        raise NotImplementedError

    def _wake(self) -> None:
        self.woken += 1

    # --- what a task tells its engine

    def finished(self, unit: Unit) -> None: ...

    def has_room(self, partition: Partition) -> None:
        self._consumer.has_room(partition)

    # --- what the tests do

    @property
    def full(self) -> set[Partition]:
        return self._consumer._full

    def fetch(self, fetched: dict[Partition, list[Record]]) -> None:
        self._consumer._hand_over(fetched)

    def process(self, partition: Partition, count: int) -> None:
        """Run one unit of so many records."""
        self.route.batch = count
        self.gate.open()
        self.tasks[partition].advance()
        self.gate.close()
        assert self.route.unit is not None
        assert len(self.route.unit.records) == count
        self.tasks[partition].finish(self.route.unit)

    def rewind(self) -> None:
        for task in self.tasks.values():
            task.give_up()
        self._consumer.seek({A: 0, B: 0})


@pytest.mark.parametrize(("size", "most"), [(100, BUFFER_HIGH), (100_000, BUFFER_BYTES // 2 // 100_000)])
def test_a_partition_waits_when_its_share_is_full_and_goes_on_at_a_quarter(size: int, most: int) -> None:
    worker = Worker()
    worker.fetch({A: records(most, size)})
    assert worker.full == set()
    worker.fetch({A: records(1, size)})
    assert worker.full == {A}
    worker.process(A, most - most // 4)
    assert (worker.full, worker.woken) == ({A}, 0)
    worker.process(A, 1)
    assert (worker.full, worker.woken) == (set(), 1)
    worker.process(A, 1)
    assert worker.woken == 1, "it is said once"
    worker.fetch({A: records(most, size)})
    worker.process(A, most)
    assert (worker.full, worker.woken) == (set(), 2), "and again when it was full again"


def test_a_record_larger_than_the_share_does_not_stop_its_partition() -> None:
    worker = Worker()
    worker.fetch({B: records(1, BUFFER_BYTES)})
    assert worker.full == {B}
    worker.process(B, 1)
    assert worker.full == set()


def test_nothing_is_full_after_a_rewind() -> None:
    worker = Worker()
    worker.fetch({at: records(BUFFER_HIGH + 1, 100) for at in (A, B)})
    assert worker.full == {A, B}
    worker.rewind()
    assert worker.full == set()
    worker.fetch({A: records(2, 100)})
    worker.process(A, 2)
    assert worker.woken == 0, "what was full before is forgotten"


def test_records_of_no_bytes_are_counted() -> None:
    assert room([Record("transfer", 0, 0, 0, None, None)], 1) == 1
    assert room(records(10, 0), 1 << 20) == BUFFER_HIGH

"""A task's own rules, whatever its events are."""

from __future__ import annotations

from typing import Any

from streamapp.engine.gate import Gate
from streamapp.engine.record import Record
from streamapp.engine.task import Task
from streamapp.engine.unit import Unit
from streamapp.errors import RecordError
from streamapp.types import Partition

AT = Partition("order", 0)


class Unreadable:
    """A route nobody can read a record of; batches of so many."""

    lanes = 1

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def deliver(self, unit: Unit) -> None:
        raise RecordError("not JSON")


class Work:
    """Whom the task hands its units back to: a failed batch runs again one at a time, a failed event is over."""

    def __init__(self) -> None:
        self.task: Any = None
        self.failures: list[int] = []

    def failed(self, unit: Unit, error: BaseException) -> None:
        if len(unit.records) > 1:
            self.task.retry(unit)
            return
        self.failures.append(unit.records[0].offset)
        self.task.finish(unit)

    def finished(self, unit: Unit) -> None: ...

    def waiting(self) -> None: ...

    def has_room(self, partition: Partition) -> None: ...


def run(batch: int, count: int) -> list[int]:
    work = Work()
    task = work.task = Task(0, Gate(), work, {AT.topic: Unreadable(batch)})  # type: ignore[arg-type]
    task.gate.open()
    task.read_from(AT, 0)
    task.add(AT, [Record(AT.topic, 0, offset, 0, None, b"\xff") for offset in range(count)])
    task.flush()
    return work.failures


def test_a_long_run_of_bad_records_needs_no_deep_stack() -> None:
    assert run(1, 5_000) == list(range(5_000))


def test_a_long_run_of_bad_batches_needs_no_deep_stack() -> None:
    assert run(7, 5_000) == list(range(5_000))

"""How far append time has come for a task, and what its stores let go of."""

from __future__ import annotations

from typing import Any

from streamapp.engine.gate import Gate
from streamapp.engine.record import Record
from streamapp.engine.task import Task
from streamapp.engine.unit import Unit
from streamapp.state import MemoryState, StoreIdentity
from streamapp.types import Partition

A, B = Partition("a", 0), Partition("b", 0)
RETENTION_S = 100


class Work:
    """Takes finished units."""

    def finished(self, unit: Any) -> None: ...

    def failed(self, unit: Any, error: BaseException, agent: str | None = None) -> None: ...

    def waiting(self) -> None: ...


def task_of(*partitions: Partition) -> Task:
    task = Task(0, Gate(), Work(), {})
    for partition in partitions:
        task.read_from(partition, 0)
    task.stores["inbox"] = MemoryState().open_partition(StoreIdentity("app", "inbox", 0, "log"), RETENTION_S)
    return task


def finish(task: Task, partition: Partition, appended_s: int) -> None:
    """One event of that append time is over, with a mark in the inbox."""
    record = Record(partition.topic, partition.number, task.inputs[partition].offset, appended_s * 1000, None, None)
    unit = Unit(task, [record])
    task._running[0] = unit
    task.gate.open()
    task.gate.enter()
    rows = unit.store(task.stores["inbox"])
    rows.set(b"%s-%d" % (partition.topic.encode(), appended_s), b"mark")
    rows.merge()
    task.finish(unit)


def commit(task: Task, *lagging: Partition) -> set[bytes]:
    """Commit, while these partitions have more to be fetched. Returns the marks that are left."""
    store = task.stores["inbox"]
    time = task.append_time(lambda partition: partition not in lagging)
    if time is not None:
        store.advance(*time)
    store.commit((store.checkpoint or 0) + 1)
    return {key for key, _ in store.committed.items()}


def test_what_is_older_than_the_retention_goes_and_nothing_younger() -> None:
    task = task_of(A)
    finish(task, A, 1000)
    assert commit(task) == {b"a-1000"}
    finish(task, A, 1000 + RETENTION_S)
    assert commit(task) == {b"a-1000", b"a-1100"}
    finish(task, A, 1000 + 2 * RETENTION_S)
    assert b"a-1000" not in commit(task)


def test_an_input_that_lags_holds_the_dropping_back() -> None:
    task = task_of(A, B)
    finish(task, A, 1000)
    finish(task, B, 1000)
    commit(task)
    finish(task, A, 5000)
    assert b"b-1000" in commit(task, B)
    task.inputs[B].buffered = 1  # fetched and not yet run, which is as far behind
    assert b"b-1000" in commit(task)
    task.inputs[B].buffered = 0
    assert b"b-1000" not in commit(task)


def test_an_input_that_has_brought_nothing_yet_holds_it_back_unless_it_is_at_its_end() -> None:
    task = task_of(A, B)
    finish(task, A, 1000)
    commit(task)
    finish(task, A, 5000)
    assert b"a-1000" in commit(task, B)
    assert b"a-1000" not in commit(task)


def test_a_commit_without_events_changes_nothing() -> None:
    assert commit(task_of(A)) == set()

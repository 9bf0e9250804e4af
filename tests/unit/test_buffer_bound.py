"""What was fetched and waits for its task is bounded: in records a partition, and in bytes a worker."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from streamapp.clock import SYSTEM_CLOCK
from streamapp.driver.consumer import BUFFER_BYTES, BUFFER_HIGH, GroupConsumer, room
from streamapp.driver.input import Input
from streamapp.driver.record import Record
from streamapp.types import Partition

A, B = Partition("transfer", 0), Partition("transfer", 1)


def records(count: int, size: int) -> list[Record]:
    return [Record("transfer", 0, offset, 0, None, bytes(size)) for offset in range(count)]


class Worker:
    """A consumer over two tasks that only count, and a member that notes what it is told."""

    def __init__(self) -> None:
        self.paused: set[Partition] = set()
        self.inputs = {at: Input(at, 0) for at in (A, B)}
        member: Any = SimpleNamespace(assignment=lambda: {A, B}, pause=self._pause, resume=self._resume)
        owners = {at: SimpleNamespace(inputs=self.inputs, add=self._add) for at in (A, B)}
        engine: Any = SimpleNamespace(owners=owners, gate=SimpleNamespace(running=0), waiting=lambda: None)
        self._consumer = GroupConsumer(member, engine, SYSTEM_CLOCK, prepare=self._prepare, crash=print)

    async def _prepare(self, partitions: Any) -> Any:
        raise NotImplementedError

    def _add(self, partition: Partition, fetched: list[Record]) -> None:
        self.inputs[partition].buffered += len(fetched)

    def _pause(self, *partitions: Partition) -> None:
        self.paused.update(partitions)

    def _resume(self, *partitions: Partition) -> None:
        self.paused.difference_update(partitions)

    def fetch(self, fetched: dict[Partition, list[Record]]) -> None:
        self._consumer._hand_over(fetched)


@pytest.mark.parametrize(("size", "most"), [(100, BUFFER_HIGH), (100_000, BUFFER_BYTES // 2 // 100_000)])
def test_a_partition_waits_when_its_share_is_full_and_goes_on_at_a_quarter(size: int, most: int) -> None:
    worker = Worker()
    worker.fetch({A: records(most, size)})
    assert worker.paused == set()
    worker.fetch({A: records(1, size)})
    assert worker.paused == {A}
    worker.inputs[A].buffered = most // 4 + 1
    worker.fetch({})
    assert worker.paused == {A}
    worker.inputs[A].buffered = most // 4
    worker.fetch({})
    assert worker.paused == set()


def test_a_record_larger_than_the_share_does_not_stop_its_partition() -> None:
    worker = Worker()
    worker.fetch({B: records(1, BUFFER_BYTES)})
    assert worker.paused == {B}
    worker.inputs[B].buffered = 0
    worker.fetch({})
    assert worker.paused == set()


def test_records_of_no_bytes_are_counted() -> None:
    assert room([Record("transfer", 0, 0, 0, None, None)], 1) == 1
    assert room(records(10, 0), 1 << 20) == BUFFER_HIGH

"""A member that must give up its seat before it had anything: it asks whether it is still the newest of its name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from streamapp.clock import SYSTEM_CLOCK
from streamapp.engine.engine import Engine
from streamapp.engine.group import GroupConsumer
from streamapp.engine.task import Task
from streamapp.eos.producer import Producer
from streamapp.eos.protocol import Membership
from streamapp.errors import InstanceFenced
from streamapp.settings import Settings
from streamapp.testing.broker import MemoryBroker
from streamapp.testing.cluster import MemoryCluster

INPUT = [("in", 0)]


class Seat:
    """A member that is told everything from outside."""

    membership = Membership("g", 1, "one-1", "one")

    def pause(self, *partitions: Any) -> None:
        """Nothing is fetched."""


class Worker:
    """The part of a worker between its member and its producer; its tables are restored for ever."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self.failures: list[BaseException] = []
        self.producer = Producer(cluster, "app-one", transaction_timeout_s=10)
        self.engine = Engine(Settings(instance="one"), self.producer, SYSTEM_CLOCK, crash=self.failures.append)
        self.consumer = GroupConsumer(
            Seat(),  # type: ignore[arg-type]
            self.engine,
            SYSTEM_CLOCK,
            prepare=self._prepare,
            crash=self.failures.append,
        )

    async def _prepare(self, partitions: Any) -> list[Task]:
        await asyncio.Event().wait()
        raise AssertionError


@pytest.fixture
async def pair() -> AsyncIterator[SimpleNamespace]:
    """Two twins; the newer one has just started."""
    cluster = MemoryCluster(MemoryBroker())
    older, newer = Worker(cluster), Worker(cluster)
    await older.producer.start()
    await older.consumer.on_partitions_revoked(())  # before it joins for the first time
    await older.consumer.on_partitions_assigned(INPUT)
    await newer.producer.start()
    yield SimpleNamespace(older=older, newer=newer)
    for worker in (older, newer):
        await worker.consumer.close()


async def test_an_older_twin_whose_tables_are_still_restored_never_takes_the_seat_again(pair: SimpleNamespace) -> None:
    with pytest.raises(asyncio.CancelledError):  # which ends the membership
        await pair.older.consumer.on_partitions_revoked(INPUT)
    (failure,) = pair.older.failures
    assert isinstance(failure, InstanceFenced)
    with pytest.raises(asyncio.CancelledError):
        await pair.older.consumer.on_partitions_revoked(())
    assert pair.older.failures == [failure], "it has said why already"


async def test_the_newer_twin_joins_and_joins_again(pair: SimpleNamespace) -> None:
    await pair.newer.consumer.on_partitions_revoked(())
    await pair.newer.consumer.on_partitions_assigned(INPUT)
    await pair.newer.consumer.on_partitions_revoked(INPUT)
    assert not pair.newer.failures

"""Members that come into a worker's group, take their share of the partitions, do nothing with it, and leave."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable

from streamapp.eos.protocol import Membership
from streamapp.testing.broker import MemoryBroker
from streamapp.testing.clock import VirtualClock
from streamapp.testing.cluster import MemoryCluster
from streamapp.testing.consumer import MemoryConsumer
from streamapp.testing.loop import VirtualLoop
from streamapp.testing.worker import LOOK_EVERY_S, Worker
from streamapp.types import Partition

#: How long one stays once it has its share.
_STAYS_S = 1.0


class Visits:
    """The visits to a worker's group that a test has asked for."""

    def __init__(self, broker: MemoryBroker, loop: VirtualLoop, worker: Worker) -> None:
        self._broker = broker
        self._loop = loop
        self._worker = worker
        self._coming: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """A visitor comes as soon as the worker is in the group, which may have to be started again first."""
        process = self._loop.process("visitor")
        self._coming.append(process.spawn(self._visit(), "visitor"))

    @property
    def over(self) -> bool:
        """Whether all visitors have come and left."""
        return all(visit.done() for visit in self._coming)

    async def _visit(self) -> None:
        worker = self._worker
        while not (worker.engine is not None and worker.engine.tasks):  # noqa: ASYNC110 - the worker may die meanwhile
            await asyncio.sleep(LOOK_EVERY_S)
        assert worker.app is not None
        await Visitor(self._broker, worker.app.settings.id, worker.app.reads).visit()


class Visitor:
    """One visit to a group that reads `topics`."""

    def __init__(self, broker: MemoryBroker, group: str, topics: Iterable[str]) -> None:
        self._cluster = MemoryCluster(broker)
        counts = {topic: broker.topics[topic].partition_count for topic in topics}
        self._consumer = MemoryConsumer(self._cluster, group, counts, self, VirtualClock())
        self._seated: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._membership: Membership | None = None

    async def visit(self) -> None:
        """Come, stay a moment, and leave."""
        seat = asyncio.create_task(self._consumer.run())
        await self._seated
        await asyncio.sleep(_STAYS_S)
        seat.cancel()
        await asyncio.gather(seat, return_exceptions=True)
        assert self._membership is not None
        await self._cluster.leave_group(self._membership)

    async def assigned(self, partitions: Collection[Partition], membership: Membership) -> None:
        """Its share; the latest membership is the one to leave with."""
        self._membership = membership
        if not self._seated.done():
            self._seated.set_result(None)

    async def revoked(self, partitions: Collection[Partition]) -> None:
        """Nothing was done with them."""

    async def lost(self, partitions: Collection[Partition]) -> None:
        """Nothing was done with them."""

"""A member that comes into a worker's group, takes its share of the partitions, does nothing with it, and leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable

from streamapp.eos.protocol import Membership
from streamapp.testing.broker import MemoryBroker
from streamapp.testing.clock import VirtualClock
from streamapp.testing.cluster import MemoryCluster
from streamapp.testing.consumer import MemoryConsumer
from streamapp.types import Partition

#: How long it stays once it has its share.
_STAYS_S = 1.0


class Visitor:
    """One visit to a group that reads `topics`."""

    def __init__(self, broker: MemoryBroker, group: str, topics: Iterable[str]) -> None:
        self._cluster = MemoryCluster(broker)
        counts = {topic: broker.topics[topic].partition_count for topic in topics}
        self._consumer = MemoryConsumer(self._cluster, group, counts, self, VirtualClock())
        self._seated: asyncio.Future[Membership] = asyncio.get_running_loop().create_future()

    async def visit(self) -> None:
        """Come, stay a moment, and leave."""
        seat = asyncio.create_task(self._consumer.run())
        membership = await self._seated
        await asyncio.sleep(_STAYS_S)
        seat.cancel()
        await asyncio.gather(seat, return_exceptions=True)
        await self._cluster.leave_group(membership)

    async def assigned(self, partitions: Collection[Partition], membership: Membership) -> None:
        """Its share; the latest membership is the one to leave with."""
        if not self._seated.done():
            self._seated.set_result(membership)

    async def revoked(self, partitions: Collection[Partition]) -> None:
        """Nothing was done with them."""

    async def lost(self, partitions: Collection[Partition]) -> None:
        """Nothing was done with them."""

"""A consumer group member on the broker in memory: joins, keeps its seat, and tells a listener what it owns.

The eager protocol of Kafka's classic groups, one coroutine: join, sync, heartbeats; on a rebalance everything is
given up first. Which partitions go where is decided by the leader, the same way for the same members. A static member
that comes back with other topics is given the assignment it had, and asks for another (ADR 0011).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Protocol

from streamapp.clock import Clock
from streamapp.eos.cluster import NoAnswer
from streamapp.eos.protocol import Code, Membership
from streamapp.errors import InstanceFenced
from streamapp.testing.cluster import MemoryCluster
from streamapp.testing.members import Assignment, Join, JoinAnswer, Share, said, topics_in
from streamapp.types import Partition


class MemoryListener(Protocol):
    """Told of each change, and awaited; heartbeats go on meanwhile."""

    async def assigned(self, partitions: Collection[Partition], membership: Membership) -> None:
        """These are ours now. Cancelled when they are taken away again before it is done."""

    async def revoked(self, partitions: Collection[Partition]) -> None:
        """To be given up for a rebalance; the seat is still good for a last commit."""

    async def lost(self, partitions: Collection[Partition]) -> None:
        """Gone without a word: the seat may be somebody else's. What it raises ends the consumer.

        Told with no partitions before another assignment is asked for: nothing was owned by which it would show.
        """


class MemoryConsumer:
    """One seat. `partition_counts` are the topics to read and how many partitions each has."""

    def __init__(
        self,
        cluster: MemoryCluster,
        group: str,
        partition_counts: Mapping[str, int],
        listener: MemoryListener,
        clock: Clock,
        *,
        instance_id: str | None = None,
        session_timeout_s: float = 10.0,
        rebalance_timeout_s: float = 10.0,
    ) -> None:
        self._cluster = cluster
        self._group = group
        self._topics = dict(partition_counts)
        self._asked = 0
        self._listener = listener
        self._clock = clock
        self._join = Join(group, "", instance_id, int(session_timeout_s * 1000), int(rebalance_timeout_s * 1000))
        self._heartbeat_s = session_timeout_s / 3

    async def run(self) -> None:
        """Be a member until cancelled. `InstanceFenced` when a newer twin has taken the seat."""
        member_id = ""
        while True:
            membership, partitions = await self._take_seat(member_id)
            code = await self._hold(membership, partitions)
            member_id = membership.member_id
            if code == Code.REBALANCE_IN_PROGRESS:
                code = await self._give_up(membership, partitions)
            if code not in (Code.NONE, Code.REBALANCE_IN_PROGRESS):
                await self._listener.lost(partitions)
                member_id = ""

    async def _take_seat(self, member_id: str) -> tuple[Membership, list[Partition]]:
        while True:
            try:
                subscription = said(self._topics, self._asked)
                joined = await self._cluster.join_group(
                    self._join._replace(member_id=member_id, subscription=subscription)
                )
                if joined.error == Code.NONE:
                    member_id = joined.member_id
                    membership = Membership(self._group, joined.generation, member_id, self._join.instance_id)
                    synced = await self._cluster.sync_group(membership, self._assign(joined))
                    if synced.error == Code.NONE:
                        share = Share.unpack(synced.assignment)
                        if self._fits(share):
                            return membership, share.partitions
                        self._asked += 1
                        await self._listener.lost([])
                    code = synced.error
                else:
                    code = joined.error
            except NoAnswer:
                await self._clock.sleep(0.1)
                continue
            if code == Code.FENCED_INSTANCE_ID:
                raise InstanceFenced(f"{self._join.instance_id} of group {self._group} was taken by a newer process.")
            if code == Code.UNKNOWN_MEMBER_ID:
                member_id = ""
            await self._clock.sleep(0.05)

    def _fits(self, share: Share) -> bool:
        return share.made_for == self._topics.keys()

    async def _hold(self, membership: Membership, partitions: list[Partition]) -> int:
        """Work until the seat changes; returns the code that said so."""
        work = asyncio.create_task(self._listener.assigned(partitions, membership), name="assigned")
        heart = asyncio.create_task(self._beat(membership), name="heartbeat")
        try:
            await asyncio.wait([work, heart], return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
            return await heart
        finally:
            await _end(work, heart)

    async def _give_up(self, membership: Membership, partitions: list[Partition]) -> int:
        heart = asyncio.create_task(self._beat(membership, through_rebalance=True), name="heartbeat")
        try:
            await self._listener.revoked(partitions)
            return heart.result() if heart.done() else Code.NONE
        finally:
            await _end(heart)

    async def _beat(self, membership: Membership, *, through_rebalance: bool = False) -> int:
        while True:
            await self._clock.sleep(self._heartbeat_s)
            try:
                code = await self._cluster.heartbeat(membership)
            except NoAnswer:
                continue
            if code != Code.NONE and not (through_rebalance and code == Code.REBALANCE_IN_PROGRESS):
                return code

    def _assign(self, joined: JoinAnswer) -> dict[str, Assignment]:
        """The leader's work: partition numbers in turn over the members that read the topic, in order of their ids.

        One number of every topic goes to one member, as co-partitioned topics must.
        """
        read = {member: topics_in(subscription) for member, subscription in joined.members}  # a leader is told all
        shares = {member: Share([], frozenset(topics)) for member, topics in read.items()}
        for topic in sorted({topic for topics in read.values() for topic in topics}):
            readers = sorted(member for member, topics in read.items() if topic in topics)
            for number in range(max(read[member][topic] for member in readers)):
                shares[readers[number % len(readers)]].partitions.append(Partition(topic, number))
        return {member: share.pack() for member, share in shares.items()}


async def _end(*tasks: asyncio.Task[object] | asyncio.Task[None] | asyncio.Task[int]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

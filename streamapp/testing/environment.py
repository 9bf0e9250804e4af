"""A worker's environment in memory: the driver of production on the broker of this package.

`MemoryEnvironment` is what a worker finds around it (`engine/environment.py`); `state` is its disk, which outlives a
crash for as long as the object is handed to the next process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping

from streamapp.client.leader_epochs import LeaderEpochs
from streamapp.clock import Clock
from streamapp.engine.environment import AssignmentListener, WantedTopics
from streamapp.engine.record import CREATE_TIME, LOG_APPEND_TIME, Record
from streamapp.engine.worker_state import State
from streamapp.eos.cluster import NoAnswer
from streamapp.eos.positions import NO_EPOCH, PositionLost
from streamapp.eos.protocol import Code, Membership
from streamapp.settings import Settings
from streamapp.testing.broker import MemoryBroker
from streamapp.testing.clock import VirtualClock
from streamapp.testing.cluster import MemoryCluster
from streamapp.testing.consumer import MemoryConsumer
from streamapp.testing.faults import Faults
from streamapp.testing.log import Fetched
from streamapp.topics import CLEANUP, SIZE, STAMP, TopicSpec
from streamapp.types import Partition

_NO_SEAT = -1
#: How long a fetch waits where a partition is left out because it is full: it may have room at any time.
_FULL_WAIT_S = 0.01
_CHANGELOG_WAIT_S = 0.1


class MemoryEnvironment:
    """An `Environment` for one process of one worker."""

    def __init__(self, broker: MemoryBroker, settings: Settings, state: State, faults: Faults | None = None) -> None:
        self.clock: Clock = VirtualClock()
        self._broker = broker
        self._settings = settings
        self._state = state
        self._cluster = MemoryCluster(broker, faults)

    def open_state(self) -> State:
        return self._state

    async def connect(self) -> MemoryCluster:
        return self._cluster

    def member(self, due_in_s: Callable[[], float]) -> MemoryMember:
        return MemoryMember(self._broker, self._cluster, self._settings, self.clock)

    async def changelogs(self, starts: Mapping[Partition, int]) -> MemoryFetches:
        return MemoryFetches(self._cluster, starts)

    async def create_topics(self, wanted_of: WantedTopics) -> Iterable[str]:
        existing = {name: topic.partition_count for name, topic in self._broker.topics.items()}
        missing = [spec for name, spec in wanted_of(1, existing).items() if name not in existing]
        for spec in missing:
            create_topic(self._broker, spec)
        return [spec.name for spec in missing]


def create_topic(broker: MemoryBroker, spec: TopicSpec) -> None:
    """Create a topic as the driver wants it."""
    broker.create_topic(
        spec.name,
        spec.partitions,
        compacted="compact" in spec.config[CLEANUP],
        append_time=spec.config[STAMP] == "LogAppendTime",
        max_message_bytes=int(spec.config[SIZE]),
    )


class MemoryMember:
    """A `Member`: a `MemoryConsumer`, with fetches by position."""

    def __init__(self, broker: MemoryBroker, cluster: MemoryCluster, settings: Settings, clock: Clock) -> None:
        self.membership = Membership(settings.id, _NO_SEAT, "", settings.instance)
        self._broker = broker
        self._cluster = cluster
        self._settings = settings
        self._clock = clock
        self._listener: AssignmentListener | None = None
        self._seat: asyncio.Task[None] | None = None
        self._assigned: frozenset[Partition] = frozenset()
        self._positions: dict[Partition, int] = {}
        self._paused: set[Partition] = set()
        self._answers: dict[Partition, int] = {}
        self._epochs = LeaderEpochs(settings.id)

    async def subscribe(self, topics: Collection[str], listener: AssignmentListener) -> None:
        if self._seat is not None:
            await listener.on_partitions_revoked(self._assigned)
            await self._leave()
        self._listener = listener
        consumer = MemoryConsumer(
            self._cluster,
            self._settings.id,
            {topic: self._broker.topics[topic].partition_count for topic in topics},
            self,
            self._clock,
            instance_id=self._settings.instance,
            session_timeout_s=self._settings.session_timeout,
        )
        self._seat = asyncio.create_task(consumer.run(), name="memory-consumer")

    # --- told by the seat

    async def assigned(self, partitions: Collection[Partition], membership: Membership) -> None:
        """The seat has these partitions."""
        assert self._listener is not None
        self.membership = membership
        self._assigned = frozenset(partitions)
        self._positions = {}
        self._paused = set()
        self._epochs.forget()
        await self._listener.on_partitions_assigned(partitions)

    async def revoked(self, partitions: Collection[Partition]) -> None:
        """To be given up; the seat still stands."""
        assert self._listener is not None
        try:
            await self._listener.on_partitions_revoked(partitions)
        finally:
            self._forget()

    async def lost(self, partitions: Collection[Partition]) -> None:
        """The seat is somebody else's."""
        assert self._listener is not None
        self.membership = self.membership._replace(generation=_NO_SEAT, member_id="")
        try:
            await self._listener.on_partitions_revoked(partitions)
        finally:
            self._forget()

    def _forget(self) -> None:
        self._assigned = frozenset()
        self._positions = {}

    # --- what the driver asks

    def assignment(self) -> Collection[Partition]:
        return self._assigned

    def seek(self, partition: Partition, offset: int) -> None:
        self._positions[partition] = offset

    def pause(self, *partitions: Partition) -> None:
        self._paused.update(partitions)

    def resume(self, *partitions: Partition) -> None:
        self._paused.difference_update(partitions)

    def position(self, partition: Partition) -> int | None:
        return self._positions.get(partition)

    def end(self, partition: Partition) -> int | None:
        log = self._broker.logs.get(partition)
        return None if log is None else log.high_watermark

    def answered(self, partition: Partition) -> int | None:
        return self._answers.get(partition)

    def leader_epoch(self, partition: Partition) -> int:
        return self._epochs.newest(partition)

    async def fetch(
        self, timeout_s: float, record_limit: int, full: Collection[Partition] = ()
    ) -> Mapping[Partition, list[Record]]:
        if self._seat is not None and self._seat.done() and not self._seat.cancelled():
            self._seat.result()
        asked = {at: offset for at, offset in self._positions.items() if at not in self._paused and at not in full}
        if full:
            timeout_s = min(timeout_s, _FULL_WAIT_S)
        if not asked:
            await self._clock.sleep(timeout_s)
            return {}
        try:
            found = await self._cluster.fetch(asked, wait_s=timeout_s, record_limit=record_limit)
        except NoAnswer:
            return {}
        expected = {at: part for at, part in found.items() if self._is_expected(at, asked[at])}
        for partition, part in expected.items():
            if part.error == Code.OFFSET_OUT_OF_RANGE:
                raise PositionLost(partition, asked[partition], self._settings.id)
            if part.leader_epoch != NO_EPOCH:
                self._epochs.saw(partition, asked[partition], part.leader_epoch)
        if self._epochs.are_in_doubt and not await self._epochs.verify(self._cluster):
            return {}
        records = {}
        for partition, part in found.items():
            self._answers[partition] = self._answers.get(partition, 0) + 1
            if self._is_expected(partition, asked[partition]) and not part.error:
                self._positions[partition] = part.position
                if part.records:
                    append_time = self._broker.topics[partition.topic].append_time
                    records[partition] = records_of(partition, part, append_time=append_time)
        return records

    def _is_expected(self, partition: Partition, offset: int) -> bool:
        """Whether what was fetched from there may be handed out: not if a seek or a pause has come since."""
        return self._positions.get(partition) == offset and partition not in self._paused

    def wake(self) -> None:
        """Nothing: where a partition is full, a fetch waits for a moment only."""

    async def close(self) -> None:
        if self._settings.instance is None:
            await self._leave()
        elif self._seat is not None:
            await _end(self._seat)

    async def _leave(self) -> None:
        if self._seat is not None:
            await _end(self._seat)
        if self.membership.member_id:
            await self._cluster.leave_group(self.membership)


class MemoryFetches:
    """`ChangelogFetches` on the broker in memory."""

    def __init__(self, cluster: MemoryCluster, starts: Mapping[Partition, int]) -> None:
        self._cluster = cluster
        self._positions = dict(starts)

    async def fetch(self, record_limit: int) -> Mapping[Partition, list[Record]]:
        try:
            found = await self._cluster.fetch(self._positions, wait_s=_CHANGELOG_WAIT_S, record_limit=record_limit)
        except NoAnswer:
            return {}
        self._positions.update((at, part.position) for at, part in found.items() if part.error == Code.NONE)
        return {at: records_of(at, part, append_time=True) for at, part in found.items() if part.records}

    async def position(self, partition: Partition) -> int:
        return self._positions[partition]

    async def close(self) -> None:
        """Nothing is held open."""


def records_of(partition: Partition, part: Fetched, *, append_time: bool) -> list[Record]:
    """Records as the driver knows them; `append_time`: their stamps are the broker's."""
    topic, number = partition
    kind = LOG_APPEND_TIME if append_time else CREATE_TIME
    return [
        Record(topic, number, found.offset, found.timestamp_ms, found.key, found.value, found.headers, kind)
        for found in part.records
    ]


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

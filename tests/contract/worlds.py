"""Two Kafka clusters for one suite: the one in memory and a real one, behind the same few calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Protocol

import aiokafka.errors
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest

from streamapp.client.cluster import connect
from streamapp.client.record_batch import Content, pack
from streamapp.eos.cluster import Cluster
from streamapp.eos.protocol import (
    NO_IDENTITY,
    Code,
    EndTxn,
    EndTxnAnswer,
    InitProducerId,
    InitProducerIdAnswer,
    ListOffsets,
    Membership,
    OffsetFetch,
    OffsetOf,
    Produce,
    Produced,
    ProducerIdentity,
    TxnOffsetCommit,
)
from streamapp.testing.broker import MemoryBroker
from streamapp.testing.cluster import MemoryCluster
from streamapp.testing.members import Assignment, Join, JoinAnswer
from streamapp.types import Partition


class World(Protocol):
    """A cluster and what a test does around the engine's own calls."""

    prefix: str
    cluster: Cluster

    def now_ms(self) -> int: ...
    async def topic(self, name: str, partitions: int = 1, **limits: Any) -> str: ...
    async def join(self, join: Join) -> JoinAnswer: ...
    async def sync(self, membership: Membership, assignments: Mapping[str, Assignment]) -> tuple[int, bytes]: ...
    async def heartbeat(self, membership: Membership) -> int:
        """As aiokafka's: it does not name the instance."""

    async def leave(self, membership: Membership) -> int: ...
    async def read(self, partition: Partition, *, committed_only: bool) -> list[bytes | None]: ...


class MemoryWorld:
    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.broker = MemoryBroker(marker_delay_s=lambda: 0.01)
        self.cluster = MemoryCluster(self.broker)

    def now_ms(self) -> int:
        return self.broker.now_ms()

    async def topic(self, name: str, partitions: int = 1, **limits: Any) -> str:
        return self.broker.create_topic(f"{self.prefix}-{name}", partitions, **limits).name

    async def join(self, join: Join) -> JoinAnswer:
        return await self.cluster.join_group(join)

    async def sync(self, membership: Membership, assignments: Mapping[str, Assignment]) -> tuple[int, bytes]:
        return await self.cluster.sync_group(membership, assignments)

    async def heartbeat(self, membership: Membership) -> int:
        return await self.cluster.heartbeat(membership._replace(instance_id=None))

    async def leave(self, membership: Membership) -> int:
        return await self.cluster.leave_group(membership)

    async def read(self, partition: Partition, *, committed_only: bool) -> list[bytes | None]:
        found = await self.cluster.fetch({partition: 0}, committed_only=committed_only, record_limit=10_000)
        return [record.value for record in found[partition].records]


class KafkaWorld:
    """A real cluster. Group calls go through aiokafka's protocol classes, one request each, without its coordinator."""

    def __init__(self, prefix: str, bootstrap: str, cluster: Cluster) -> None:
        self.prefix = prefix
        self.cluster = cluster
        self._bootstrap = bootstrap

    def now_ms(self) -> int:
        return int(time.time() * 1000)

    async def topic(self, name: str, partitions: int = 1, **limits: Any) -> str:
        full = f"{self.prefix}-{name}"
        configs = {}
        if "max_message_bytes" in limits:
            configs["max.message.bytes"] = str(limits["max_message_bytes"])
        if limits.get("compacted"):
            configs["cleanup.policy"] = "compact"
        if limits.get("append_time"):
            configs["message.timestamp.type"] = "LogAppendTime"
        for field in ("before", "after"):
            if (limit := limits.get(f"timestamp_{field}_max_ms")) is not None:
                configs[f"message.timestamp.{field}.max.ms"] = str(limit)
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(full, partitions, 1, topic_configs=configs)])
        finally:
            await admin.close()
        wanted = [Partition(full, number) for number in range(partitions)]
        for _ in range(100):
            if len(await self.cluster.leaders(wanted)) == partitions:
                return full
            await asyncio.sleep(0.05)
        raise TimeoutError(f"topic {full} got no leader in 5 s")

    async def join(self, join: Join) -> JoinAnswer:
        answer = await self._join(join)
        if answer.error == 79:  # MEMBER_ID_REQUIRED (KIP-394): the broker names the member first, then lets it in
            answer = await self._join(join._replace(member_id=answer.member_id))
        return answer

    async def _join(self, join: Join) -> JoinAnswer:
        response = await self._send(
            join.group,
            JoinGroupRequest(
                join.group,
                join.session_timeout_ms,
                join.rebalance_timeout_ms,
                join.member_id,
                join.instance_id,  # type: ignore[arg-type]
                "contract",  # not "consumer": the coordinator would parse the subscription
                [("any", join.subscription)],
            ),
        )
        members = tuple((member[0], bytes(member[-1])) for member in response.members)
        return JoinAnswer(response.error_code, response.generation_id, response.member_id, response.leader_id, members)

    async def sync(self, membership: Membership, assignments: Mapping[str, Assignment]) -> tuple[int, bytes]:
        group, generation, member_id, instance_id = membership
        response = await self._send(
            group,
            SyncGroupRequest(group, generation, member_id, instance_id, list(assignments.items())),  # type: ignore[arg-type]
        )
        return response.error_code, bytes(response.member_assignment)

    async def heartbeat(self, membership: Membership) -> int:
        response = await self._send(
            membership.group, HeartbeatRequest(membership.group, membership.generation, membership.member_id)
        )
        return int(response.error_code)

    async def leave(self, membership: Membership) -> int:
        response = await self._send(membership.group, LeaveGroupRequest(membership.group, membership.member_id))
        return int(response.error_code)

    async def read(self, partition: Partition, *, committed_only: bool) -> list[bytes | None]:
        which = OffsetOf.LAST_STABLE if committed_only else OffsetOf.HIGH_WATERMARK
        end = (await self.cluster.list_offsets(ListOffsets((partition,), which)))[partition].offset
        if end == 0:
            return []
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            enable_auto_commit=False,
            isolation_level="read_committed" if committed_only else "read_uncommitted",
        )
        await consumer.start()
        found: list[bytes | None] = []
        source = TopicPartition(*partition)
        try:
            consumer.assign([source])
            consumer.seek(source, 0)
            async with asyncio.timeout(60):
                while await consumer.position(source) < end:
                    for records in (await consumer.getmany(timeout_ms=100)).values():
                        found.extend(record.value for record in records)
        finally:
            await consumer.stop()
        return found

    async def _send(self, group: str, request: Any) -> Any:
        """Each on a connection of its own: a broker answers a connection's requests in order, and a join may wait."""
        client = AIOKafkaClient(bootstrap_servers=self._bootstrap)
        try:
            await client.bootstrap()
            for _ in range(100):
                try:
                    node = await client.coordinator_lookup(CoordinationType.GROUP, group)
                except aiokafka.errors.KafkaError as exc:
                    if not exc.retriable:
                        raise
                else:
                    response = await client.send(node, request)
                    if response.error_code not in (Code.COORDINATOR_LOAD_IN_PROGRESS, Code.NOT_COORDINATOR):
                        return response
                await asyncio.sleep(0.05)
        finally:
            await client.close()
        raise TimeoutError(f"no coordinator for group {group} in 5 s")


@asynccontextmanager
async def open_kafka(prefix: str, bootstrap: str) -> AsyncIterator[KafkaWorld]:
    """A world on a running broker."""
    cluster = await connect(bootstrap)
    try:
        yield KafkaWorld(prefix, bootstrap, cluster)
    finally:
        await cluster.close()


class Outcome(NamedTuple):
    """Where a partition ends."""

    stable: int
    high: int


class Client:
    """A transactional producer by hand: one call, one request; only errors that mean "not yet" are asked again."""

    def __init__(self, world: World, name: str, timeout_ms: int = 60_000) -> None:
        self.world = world
        self.tid = f"{world.prefix}-{name}"
        self.timeout_ms = timeout_ms
        self.identity = NO_IDENTITY
        #: A partition whose leader is asked for one that has none.
        self.elsewhere = Partition("", 0)

    async def init(self, identity: ProducerIdentity = NO_IDENTITY) -> InitProducerIdAnswer:
        request = InitProducerId(self.tid, self.timeout_ms, identity)
        answer = await _later(lambda: self.world.cluster.init_producer_id(request), lambda got: got.error)
        if answer.error == Code.NONE:
            self.identity = answer.identity
        return answer

    async def produce(
        self, partition: Partition, *values: bytes, sequence: int = 0, identity: ProducerIdentity | None = None
    ) -> Produced:
        now_ms = self.world.now_ms()
        return await self.produce_contents(
            partition, [(b"k", value, now_ms, ()) for value in values], sequence=sequence, identity=identity
        )

    async def produce_contents(
        self,
        partition: Partition,
        contents: list[Content],
        *,
        sequence: int = 0,
        identity: ProducerIdentity | None = None,
    ) -> Produced:
        batch = pack(contents, identity=identity or self.identity, sequence=sequence, transactional=True)
        request = Produce(self.tid, 5000, {partition: batch})

        async def send() -> Produced:
            node = (await self.world.cluster.leaders([partition])).get(partition)
            if node is None:
                node = next(iter((await self.world.cluster.leaders([self.elsewhere])).values()))
            return (await self.world.cluster.produce(node, request))[partition]

        return await _later(send, lambda got: got.error)

    async def offsets(
        self, membership: Membership, offsets: Mapping[Partition, int], identity: ProducerIdentity | None = None
    ) -> dict[Partition, int]:
        request = TxnOffsetCommit(self.tid, identity or self.identity, membership, offsets)
        answer = await _later(lambda: self.world.cluster.commit_offsets(request), lambda got: max(got.values()))
        return {partition: int(code) for partition, code in answer.items()}

    async def end_once(self, committed: bool, identity: ProducerIdentity | None = None) -> EndTxnAnswer:
        """One `EndTxn`; a new identity is taken over only when the request was made with the current one."""
        used = identity or self.identity
        answer = await self.world.cluster.end_transaction(EndTxn(self.tid, used, committed))
        if answer.error == Code.NONE and used == self.identity:
            self.identity = answer.identity
        return answer

    async def end(self, committed: bool, identity: ProducerIdentity | None = None) -> EndTxnAnswer:
        return await _later(lambda: self.end_once(committed, identity), lambda got: got.error)


async def _later(call: Callable[[], Awaitable[Any]], code: Callable[[Any], int]) -> Any:
    """Repeat while the broker says "not yet": the coordinator is loading or markers are being written."""
    async with asyncio.timeout(60):
        while True:
            answer = await call()
            if code(answer) not in (
                Code.NOT_LEADER_OR_FOLLOWER,  # of a topic just made
                Code.COORDINATOR_LOAD_IN_PROGRESS,
                Code.COORDINATOR_NOT_AVAILABLE,
                Code.NOT_COORDINATOR,
                Code.CONCURRENT_TRANSACTIONS,
            ):
                return answer
            await asyncio.sleep(0.02)


async def ends(world: World, partition: Partition) -> Outcome:
    stable = await world.cluster.list_offsets(ListOffsets((partition,), OffsetOf.LAST_STABLE))
    high = await world.cluster.list_offsets(ListOffsets((partition,), OffsetOf.HIGH_WATERMARK))
    return Outcome(stable[partition].offset, high[partition].offset)


async def settle(world: World, partition: Partition) -> Outcome:
    """Wait until no transaction is open in the partition."""
    async with asyncio.timeout(60):
        while True:
            outcome = await ends(world, partition)
            if outcome.stable == outcome.high:
                return outcome
            await asyncio.sleep(0.02)


async def committed(world: World, group: str, partition: Partition, *, stable: bool = True) -> tuple[int, int]:
    """(error, offset) of what a group has committed."""
    answer = await _later(
        lambda: world.cluster.fetch_offsets(OffsetFetch(group, (partition,), stable)), lambda got: got.error
    )
    found = answer.offsets[partition]
    return int(found.error), found.offset


async def settled_offset(world: World, group: str, partition: Partition) -> int:
    """The committed offset once nothing is pending on it."""
    async with asyncio.timeout(60):
        while True:
            error, offset = await committed(world, group, partition)
            if error != Code.UNSTABLE_OFFSET_COMMIT:
                assert error == 0
                return offset
            await asyncio.sleep(0.02)


async def seat(
    world: World, group: str, instance_id: str | None = None, session_timeout_ms: int = 10_000
) -> Membership:
    """Join as the only (or a returning static) member and get an assignment."""
    answer = await world.join(Join(group, "", instance_id, session_timeout_ms, 10_000, b"topics"))
    assert answer.error == 0, answer
    membership = Membership(group, answer.generation, answer.member_id, instance_id)
    given = {answer.member_id: b"everything"} if answer.leader == answer.member_id and answer.members else {}
    code, _ = await world.sync(membership, given)
    assert code == 0
    return membership

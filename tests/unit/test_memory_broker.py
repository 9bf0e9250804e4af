"""What the broker in memory has beyond the contract suite: compaction, retention, long polls, faults, big groups."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from streamapp.client.record_batch import pack, unpack
from streamapp.eos.cluster import Cluster, NoAnswer
from streamapp.eos.protocol import (
    Code,
    EndTxn,
    InitProducerId,
    Membership,
    OffsetFetch,
    Produce,
    ProducerIdentity,
    TxnOffsetCommit,
)
from streamapp.errors import InstanceFenced
from streamapp.testing.broker import MemoryBroker
from streamapp.testing.clock import VirtualClock
from streamapp.testing.cluster import MemoryCluster
from streamapp.testing.consumer import MemoryConsumer
from streamapp.testing.faults import Fate, ScriptedFaults
from streamapp.testing.log import AbortedRange
from streamapp.testing.loop import VirtualLoop, run
from streamapp.testing.members import Join
from streamapp.types import Partition

T0 = Partition("t", 0)


def virtual(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Run a test on virtual time."""

    def runner() -> None:
        async def main(loop: VirtualLoop) -> None:
            await test()

        run(main)

    runner.__name__, runner.__doc__ = test.__name__, test.__doc__
    return runner


def batch(identity: ProducerIdentity, *pairs: tuple[bytes | None, bytes | None], sequence: int = 0) -> bytes:
    contents = [(key, value, 1, ()) for key, value in pairs]
    return pack(contents, identity=identity, sequence=sequence, transactional=True)


async def begin(cluster: Cluster, tid: str = "a") -> ProducerIdentity:
    return (await cluster.init_producer_id(InitProducerId(tid, 60_000))).identity


def test_batches_survive_packing() -> None:
    contents = [(b"k", b"v", 7, (("h", b"x"),)), (None, None, 8, ())]
    found = unpack(pack(contents))
    assert [(record.key, record.value, record.timestamp_ms, record.headers) for record in found] == contents
    damaged = bytearray(pack(contents))
    damaged[-1] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        unpack(damaged)


@virtual
async def test_compaction_keeps_the_last_committed_record_of_each_key() -> None:
    broker = MemoryBroker()
    broker.create_topic("t", compacted=True)
    log, cluster = broker.logs[T0], MemoryCluster(broker)
    for key, value in ((b"a", b"1"), (b"b", b"1"), (b"a", b"2"), (b"c", None)):
        broker.send(T0, key, value)
    identity = await begin(cluster)
    await cluster.produce(0, Produce("a", 1, {T0: batch(identity, (b"a", b"aborted"), (b"b", b"aborted"))}))
    identity = (await cluster.end_transaction(EndTxn("a", identity, False))).identity
    await cluster.produce(0, Produce("a", 1, {T0: batch(identity, (b"b", b"open"))}))
    assert log.aborted_ranges == [AbortedRange(identity.producer_id, 4, 6)]

    log.compact()
    kept = [(record.offset, record.key, record.value) for record in log.fetch(0, committed_only=True).records]
    assert kept == [(1, b"b", b"1"), (2, b"a", b"2"), (3, b"c", None)]
    # offsets stand as they were: the open transaction's record is at 7, behind the abort marker
    assert (log.last_stable_offset, log.high_watermark) == (7, 8)
    assert [record.value for record in log.fetch(5, committed_only=False).records] == [b"open"]

    await cluster.end_transaction(EndTxn("a", identity, True))
    broker.send(T0, b"z", b"last")
    log.compact(drop_tombstones=True)
    kept = [(record.offset, record.key, record.value) for record in log.fetch(0, committed_only=True).records]
    assert kept == [(2, b"a", b"2"), (7, b"b", b"open"), (9, b"z", b"last")]


@virtual
async def test_retention_moves_the_start() -> None:
    broker = MemoryBroker()
    broker.create_topic("t")
    for number in range(5):
        broker.send(T0, b"k", b"%d" % number)
    log = broker.logs[T0]
    log.delete_before(3)
    assert log.fetch(0, committed_only=True).error == Code.OFFSET_OUT_OF_RANGE
    assert [record.value for record in log.fetch(3, committed_only=True).records] == [b"3", b"4"]
    assert log.fetch(6, committed_only=True).error == Code.OFFSET_OUT_OF_RANGE


@virtual
async def test_append_time_replaces_the_records_own() -> None:
    broker = MemoryBroker()
    broker.create_topic("t", append_time=True)
    await asyncio.sleep(5)
    broker.send(T0, b"k", b"v", timestamp_ms=1)
    (record,) = broker.logs[T0].fetch(0, committed_only=True).records
    assert record.timestamp_ms == broker.now_ms()


@virtual
async def test_a_fetch_can_stop_inside_a_batch() -> None:
    broker = MemoryBroker()
    broker.create_topic("t")
    cluster = MemoryCluster(broker)
    identity = await begin(cluster)
    pairs = [(b"k", b"%d" % number) for number in range(6)]
    await cluster.produce(0, Produce("a", 1, {T0: batch(identity, *pairs)}))
    await cluster.end_transaction(EndTxn("a", identity, True))
    seen, position = [], 0
    while position < broker.logs[T0].high_watermark:
        part = (await cluster.fetch({T0: position}, record_limit=4))[T0]
        assert len(part.records) <= 4
        seen += [record.value for record in part.records]
        position = part.position
    assert seen == [value for _, value in pairs]


@virtual
async def test_a_fetch_waits_for_something_new() -> None:
    broker = MemoryBroker()
    broker.create_topic("t")
    cluster, loop = MemoryCluster(broker), asyncio.get_running_loop()
    loop.call_later(3, broker.send, T0, b"k", b"v")
    found = await cluster.fetch({T0: 0}, wait_s=10)
    assert ([record.value for record in found[T0].records], loop.time()) == ([b"v"], 3)
    assert (await cluster.fetch({T0: 1}, wait_s=10))[T0].records == ()
    assert loop.time() == 13


def end_of(cluster: Cluster, identity: ProducerIdentity) -> Awaitable[object]:
    return cluster.end_transaction(EndTxn("a", identity, True))


@virtual
async def test_each_fault_does_what_it_says() -> None:
    broker = MemoryBroker()
    broker.create_topic("t")
    fates = {
        ("produce", 1): Fate(arrivals_s=(), patience_s=2),
        ("produce", 2): Fate(answer_s=None, patience_s=1),
        ("produce", 3): Fate(arrivals_s=(0.0, 4.0)),
        ("produce", 4): Fate(arrivals_s=(9.0,), patience_s=0.5),
        ("produce", 5): Fate(refusal=Code.NOT_LEADER_OR_FOLLOWER),
    }
    cluster, loop, log = MemoryCluster(broker, ScriptedFaults(fates)), asyncio.get_running_loop(), broker.logs[T0]
    identity = await begin(cluster)

    def send(sequence: int) -> Awaitable[object]:
        payload = batch(identity, (b"k", b"v"), sequence=sequence)
        return cluster.produce(0, Produce("a", 1, {T0: payload}))

    with pytest.raises(NoAnswer):  # lost on the way there
        await send(0)
    assert (loop.time(), log.high_watermark) == (2, 0)
    with pytest.raises(NoAnswer):  # carried out, lost on the way back
        await send(0)
    assert (loop.time(), log.high_watermark) == (3, 1)
    assert (await send(1))[T0].error == 0  # carried out twice, the second time to no effect
    await asyncio.sleep(5)
    assert log.high_watermark == 2
    with pytest.raises(NoAnswer):  # too late for the client, but it comes
        await send(2)
    assert (loop.time(), log.high_watermark) == (8.5, 2)
    await asyncio.sleep(9)
    assert log.high_watermark == 3
    assert (await send(3))[T0].error == Code.NOT_LEADER_OR_FOLLOWER
    assert log.high_watermark == 3
    assert (await send(3))[T0].error == 0


@virtual
async def test_a_request_outlives_its_sender() -> None:
    broker = MemoryBroker()
    broker.create_topic("t")
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    cluster = MemoryCluster(broker, ScriptedFaults({("produce", 1): Fate(arrivals_s=(1.0,))}))
    identity = await begin(cluster)
    process = loop.process("worker")
    task = process.spawn(cluster.produce(0, Produce("a", 1, {T0: batch(identity, (b"k", b"v"))})))
    await asyncio.sleep(0.5)
    process.kill()
    await asyncio.sleep(1)
    assert (task.done(), broker.logs[T0].high_watermark) == (False, 1)


@virtual
async def test_markers_come_partition_by_partition() -> None:
    delays = iter((1.0, 5.0, 9.0))
    broker = MemoryBroker(marker_delay_s=lambda: next(delays))
    broker.create_topic("t", 2)
    cluster = MemoryCluster(broker)
    identity, other = await begin(cluster), Partition("t", 1)
    for partition in (T0, other):
        await cluster.produce(0, Produce("a", 1, {partition: batch(identity, (b"k", b"v"))}))
    await cluster.commit_offsets(TxnOffsetCommit("a", identity, Membership("g", -1, ""), {T0: 1}))
    assert (await cluster.end_transaction(EndTxn("a", identity, True))).error == 0
    stable = []
    for _ in range(3):
        await asyncio.sleep(3.5)
        offsets = (await cluster.fetch_offsets(OffsetFetch("g", (T0,)))).offsets[T0]
        stable.append((*(broker.logs[partition].last_stable_offset for partition in (T0, other)), offsets.error))
    assert stable == [(2, 0, 88), (2, 2, 88), (2, 2, 0)]


@virtual
async def test_an_end_is_repeated_before_its_markers_are_written() -> None:
    broker = MemoryBroker(marker_delay_s=lambda: 1.0)
    broker.create_topic("t")
    cluster = MemoryCluster(broker)
    identity = await begin(cluster)
    await cluster.produce(0, Produce("a", 1, {T0: batch(identity, (b"k", b"v"))}))
    first = await cluster.end_transaction(EndTxn("a", identity, True))
    assert first.error == 0
    assert (await cluster.end_transaction(EndTxn("a", identity, True))).error == Code.CONCURRENT_TRANSACTIONS
    assert (await cluster.end_transaction(EndTxn("a", identity, False))).error == Code.INVALID_TXN_STATE
    assert (await cluster.end_transaction(EndTxn("a", first.identity, True))).error == Code.PRODUCER_FENCED
    early = Produce("a", 1, {T0: batch(first.identity, (b"k", b"next"))})
    assert (await cluster.produce(0, early))[T0].error == Code.CONCURRENT_TRANSACTIONS
    asked = InitProducerId("a", 60_000, identity)
    assert (await cluster.init_producer_id(asked)).error == Code.CONCURRENT_TRANSACTIONS
    await asyncio.sleep(1)
    assert await cluster.end_transaction(EndTxn("a", identity, True)) == first
    assert (await cluster.produce(0, early))[T0].error == 0


class Owner:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.owned: set[Partition] = set()
        self.story: list[str] = []

    async def assigned(self, partitions: object, membership: Membership) -> None:
        self.owned = set(partitions)  # type: ignore[call-overload]
        self.story.append(f"assigned {membership.generation}")

    async def revoked(self, partitions: object) -> None:
        self.owned = set()
        self.story.append("revoked")

    async def lost(self, partitions: object) -> None:
        self.owned = set()
        self.story.append("lost")


def consumer(broker: MemoryBroker, owner: Owner, instance_id: str | None = None, **topics: int) -> MemoryConsumer:
    counts = topics or {"t": 6}
    return MemoryConsumer(MemoryCluster(broker), "g", counts, owner, VirtualClock(), instance_id=instance_id)


@virtual
async def test_partitions_move_as_members_come_freeze_and_go() -> None:
    broker, loop = MemoryBroker(), asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    owners = [Owner() for _ in range(3)]
    processes = [loop.process(f"w{index}") for index in range(3)]
    every = {Partition("t", number) for number in range(6)}
    for owner, process in zip(owners, processes, strict=True):
        process.spawn(consumer(broker, owner).run())
        await asyncio.sleep(8)
    assert [len(owner.owned) for owner in owners] == [2, 2, 2]
    assert set.union(*(owner.owned for owner in owners)) == every
    processes[0].freeze()
    await asyncio.sleep(25)  # its session, and the others' rebalance
    assert owners[1].owned | owners[2].owned == every
    assert len(owners[0].owned) == 2  # it does not know yet
    processes[0].thaw()
    await asyncio.sleep(20)
    assert owners[0].story[-2:] == ["lost", f"assigned {broker.group('g').generation}"]
    assert set.union(*(owner.owned for owner in owners)) == every
    processes[1].kill()
    await asyncio.sleep(25)
    assert owners[0].owned | owners[2].owned == every


@virtual
async def test_a_static_member_is_back_without_a_rebalance() -> None:
    broker, loop = MemoryBroker(), asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    stays, first, second = Owner(), Owner(), Owner()
    loop.process("stays").spawn(consumer(broker, stays, "one").run())
    old = loop.process("old")
    old.spawn(consumer(broker, first, "two").run())
    await asyncio.sleep(12)
    story, generation = list(stays.story), broker.group("g").generation
    old.kill()
    loop.process("new").spawn(consumer(broker, second, "two").run())
    await asyncio.sleep(12)
    assert (stays.story, broker.group("g").generation) == (story, generation)
    assert second.owned == first.owned != set()


@virtual
async def test_a_static_member_that_comes_back_with_other_topics_is_assigned_those() -> None:
    await _comes_back({"t": 6, "u": 2})
    await _comes_back({"u": 2})


async def _comes_back(topics: dict[str, int]) -> None:
    broker, loop = MemoryBroker(), asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    old, new, other = Owner(), Owner(), Owner()
    process = loop.process("old")
    process.spawn(consumer(broker, old, "one").run())
    loop.process("other").spawn(consumer(broker, other, "two").run())
    await asyncio.sleep(8)
    process.kill()
    loop.process("new").spawn(consumer(broker, new, "one", **topics).run())
    await asyncio.sleep(8)
    assert new.story == ["lost", f"assigned {broker.group('g').generation}"]
    assert {partition.topic for partition in new.owned} == set(topics)
    every = {Partition("t", number) for number in range(6)} | {Partition("u", number) for number in range(2)}
    assert new.owned | other.owned == every and not new.owned & other.owned


@virtual
async def test_a_twin_takes_the_seat_before_its_holder_has_asked_for_another_assignment() -> None:
    broker, loop = MemoryBroker(), asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    may_ask = asyncio.Event()

    class Waiting(Owner):
        async def lost(self, partitions: object) -> None:
            await super().lost(partitions)
            await may_ask.wait()

    before, older, newer = Owner(), Waiting(), Owner()
    process = loop.process("before")
    process.spawn(consumer(broker, before, "one").run())
    await asyncio.sleep(5)
    process.kill()
    ended = loop.process("older").spawn(consumer(broker, older, "one", t=6, u=2).run())
    await asyncio.sleep(2)
    assert older.story == ["lost"]
    loop.process("newer").spawn(consumer(broker, newer, "one", t=6, u=2).run())
    await asyncio.sleep(5)
    may_ask.set()
    with pytest.raises(InstanceFenced):
        await ended
    assert older.story == ["lost"]
    assert newer.story == ["lost", f"assigned {broker.group('g').generation}"]
    assert len(newer.owned) == 8


@virtual
async def test_the_older_twin_ends() -> None:
    broker, loop = MemoryBroker(), asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    older, newer = Owner(), Owner()

    async def twin() -> str:
        try:
            await consumer(broker, older, "one").run()
        except InstanceFenced:
            return "ended"
        return "?"

    class Confirming(Owner):
        async def lost(self, partitions: object) -> None:
            raise InstanceFenced("the broker said so")

    older = Confirming()
    ended = loop.process("older").spawn(twin())
    await asyncio.sleep(5)
    loop.process("newer").spawn(consumer(broker, newer, "one").run())
    assert await ended == "ended"
    assert len(newer.owned) == 6


@virtual
async def test_who_never_syncs_is_dropped() -> None:
    broker = MemoryBroker()
    cluster = MemoryCluster(broker)
    join = Join("g", session_timeout_ms=60_000, rebalance_timeout_ms=5_000, subscription=b"s")
    first = asyncio.ensure_future(cluster.join_group(join))
    leader = await first
    await asyncio.sleep(6)
    membership = Membership("g", leader.generation, leader.member_id)
    assert await cluster.heartbeat(membership) == Code.UNKNOWN_MEMBER_ID
    assert not broker.group("g").members

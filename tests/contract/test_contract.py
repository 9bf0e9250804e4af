"""One suite for the broker in memory and a real Kafka: the same calls, the same answers, the same error codes.

Where the two disagree the real one is right, and the one in memory is mended.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from streamapp.eos.protocol import Code, EpochEnd, Membership, ProducerIdentity
from streamapp.testing.loop import run
from streamapp.testing.members import Join
from streamapp.types import Partition

sys.path.insert(0, str(Path(__file__).parent))
from worlds import (
    Client,
    MemoryWorld,
    Outcome,
    World,
    committed,
    ends,
    open_kafka,
    seat,
    settle,
    settled_offset,
)

Trace = Callable[[World], Awaitable[None]]
TRACES: list[Trace] = []
UNSEATED = -1, ""


def trace(function: Trace) -> Trace:
    TRACES.append(function)
    return function


# Visibility: nothing of a transaction is seen before its end, all of it after


@trace
async def invisible_until_committed(world: World) -> None:
    partition = Partition(await world.topic("t"), 0)
    client = Client(world, "a")
    assert (await client.init()).error == 0
    assert (await client.produce(partition, b"1", b"2"))[:2] == (0, 0)
    assert await ends(world, partition) == Outcome(0, 2)
    assert await world.read(partition, committed_only=True) == []
    assert await world.read(partition, committed_only=False) == [b"1", b"2"]
    before = client.identity
    assert (await client.end(True)).error == 0
    assert client.identity == ProducerIdentity(before.producer_id, before.epoch + 1)
    assert await settle(world, partition) == Outcome(3, 3)  # the commit marker has an offset of its own
    assert await world.read(partition, committed_only=True) == [b"1", b"2"]


@trace
async def aborted_records_are_skipped(world: World) -> None:
    partition = Partition(await world.topic("t"), 0)
    client = Client(world, "a")
    await client.init()
    await client.produce(partition, b"gone")
    assert (await client.end(False)).error == 0
    await client.produce(partition, b"kept")
    await client.end(True)
    await settle(world, partition)
    assert await world.read(partition, committed_only=True) == [b"kept"]
    assert await world.read(partition, committed_only=False) == [b"gone", b"kept"]


@trace
async def the_stable_offset_stops_at_the_oldest_open_transaction(world: World) -> None:
    partition = Partition(await world.topic("t"), 0)
    slow, fast = Client(world, "slow"), Client(world, "fast")
    await slow.init()
    await fast.init()
    await slow.produce(partition, b"slow")
    await fast.produce(partition, b"fast")
    await fast.end(True)
    # behind the slow one nothing is stable, though it is committed
    await _until(lambda: _high(world, partition), 3)
    assert (await ends(world, partition)).stable == 0
    assert await world.read(partition, committed_only=True) == []
    await slow.end(False)
    await settle(world, partition)
    assert await world.read(partition, committed_only=True) == [b"fast"]


@trace
async def partitions_and_offsets_end_together(world: World) -> None:
    topic = await world.topic("t", 2)
    first, second = Partition(topic, 0), Partition(topic, 1)
    group, client = f"{world.prefix}-g", Client(world, "a")
    await client.init()
    membership = await seat(world, group)
    await client.produce(first, b"1")
    await client.produce(second, b"2")
    assert await client.offsets(membership, {first: 7}) == {first: 0}
    assert await committed(world, group, first, stable=False) == (0, -1)
    await client.end(True)
    await settle(world, first)
    await settle(world, second)
    assert await settled_offset(world, group, first) == 7
    assert await world.read(first, committed_only=True) == [b"1"]
    assert await world.read(second, committed_only=True) == [b"2"]


@trace
async def aborted_offsets_do_not_count(world: World) -> None:
    partition = Partition(await world.topic("t"), 0)
    group, client = f"{world.prefix}-g", Client(world, "a")
    await client.init()
    membership = await seat(world, group)
    await client.offsets(membership, {partition: 3})
    await client.end(True)
    assert await settled_offset(world, group, partition) == 3
    await client.offsets(membership, {partition: 9})
    assert await committed(world, group, partition) == (Code.UNSTABLE_OFFSET_COMMIT, -1)
    assert await committed(world, group, partition, stable=False) == (0, 3)
    await client.end(False)
    assert await settled_offset(world, group, partition) == 3


# Epochs: who is newer


@trace
async def a_plain_init_fences_the_older_holder(world: World) -> None:
    partition = Partition(await world.topic("t"), 0)
    group, old, new = f"{world.prefix}-g", Client(world, "a"), Client(world, "a")
    await old.init()
    await old.produce(partition, b"zombie")
    await new.init()
    assert new.identity == ProducerIdentity(old.identity.producer_id, old.identity.epoch + 2)  # one abort, one init
    assert (await old.produce(partition, b"late", sequence=1)).error == Code.INVALID_PRODUCER_EPOCH
    unchecked = Membership(group, *UNSEATED)
    assert await old.offsets(unchecked, {partition: 1}) == {partition: Code.INVALID_PRODUCER_EPOCH}
    assert (await old.end(True)).error == Code.PRODUCER_FENCED
    assert (await old.init(old.identity)).error == Code.PRODUCER_FENCED
    await new.produce(partition, b"new")
    await new.end(True)
    await settle(world, partition)
    assert await world.read(partition, committed_only=True) == [b"new"]


@trace
async def a_holder_without_a_transaction_is_fenced_too(world: World) -> None:
    partition = Partition(await world.topic("t"), 0)
    old, new = Client(world, "a"), Client(world, "a")
    await old.init()
    await new.init()
    assert new.identity == ProducerIdentity(old.identity.producer_id, old.identity.epoch + 1)
    assert (await old.produce(partition, b"zombie")).error == Code.INVALID_PRODUCER_EPOCH
    assert (await old.init(old.identity)).error == Code.PRODUCER_FENCED


@trace
async def init_with_the_own_identity_keeps_it(world: World) -> None:
    client = Client(world, "a")
    await client.init()
    first = client.identity
    assert (await client.init(first)).identity == ProducerIdentity(first.producer_id, first.epoch + 1)
    # the same question again (its answer was lost) gets the same answer
    assert (await client.init(first)).identity == ProducerIdentity(first.producer_id, first.epoch + 1)
    assert (await client.init(ProducerIdentity(first.producer_id, first.epoch + 1))).identity.epoch == first.epoch + 2
    assert (await client.init(first)).error == Code.PRODUCER_FENCED


@trace
async def init_with_the_own_identity_ends_the_open_transaction(world: World) -> None:
    partition = Partition(await world.topic("t"), 0)
    client = Client(world, "a")
    await client.init()
    first = client.identity
    await client.produce(partition, b"gone")
    assert (await client.init(first)).error == 0
    assert client.identity == ProducerIdentity(first.producer_id, first.epoch + 1)
    await settle(world, partition)
    assert await world.read(partition, committed_only=True) == []


@trace
async def a_question_of_an_old_holder_does_not_make_it_the_newer_one(world: World) -> None:
    partition = Partition(await world.topic("t"), 0)
    old, new = Client(world, "a"), Client(world, "a")
    await old.init()
    await new.init()
    await new.produce(partition, b"x")
    assert (await old.init(old.identity)).error == Code.PRODUCER_FENCED
    # the question did end the newer one's transaction, which can go on with a new epoch
    assert (await new.end(True)).error == Code.INVALID_TXN_STATE
    assert (await new.init(new.identity)).error == 0
    await settle(world, partition)
    assert await world.read(partition, committed_only=True) == []


@trace
async def an_unknown_transactional_id(world: World) -> None:
    partition = Partition(await world.topic("t"), 0)
    client = Client(world, "nobody")
    client.identity = ProducerIdentity(999_999, 0)
    assert (await client.produce(partition, b"x")).error == Code.INVALID_PRODUCER_ID_MAPPING
    assert (await client.end(True)).error == Code.INVALID_PRODUCER_ID_MAPPING
    unchecked = Membership(f"{world.prefix}-g", *UNSEATED)
    assert await client.offsets(unchecked, {partition: 1}) == {partition: Code.INVALID_PRODUCER_ID_MAPPING}


@trace
async def a_producer_id_of_somebody_else(world: World) -> None:
    partition = Partition(await world.topic("t"), 0)
    client, other = Client(world, "a"), Client(world, "b")
    await client.init()
    await other.init()
    stolen = other.identity
    assert (await client.produce(partition, b"x", identity=stolen)).error == Code.INVALID_PRODUCER_ID_MAPPING
    assert (await client.end(True, stolen)).error == Code.INVALID_PRODUCER_ID_MAPPING
    assert (await client.init(stolen)).error == Code.PRODUCER_FENCED


@trace
async def a_transaction_timeout_above_the_brokers_limit(world: World) -> None:
    assert (await Client(world, "a", timeout_ms=3_600_000).init()).error == Code.INVALID_TRANSACTION_TIMEOUT


@trace
async def a_timed_out_transaction(world: World) -> None:
    partition = Partition(await world.topic("t"), 0)
    group, client = f"{world.prefix}-g", Client(world, "a", timeout_ms=1000)
    await client.init()
    mine = client.identity
    assert (await client.produce(partition, b"late")).error == 0
    await settle(world, partition)
    assert (await client.produce(partition, b"later", sequence=1)).error == Code.INVALID_PRODUCER_EPOCH
    unchecked = Membership(group, *UNSEATED)
    assert await client.offsets(unchecked, {partition: 1}) == {partition: Code.INVALID_PRODUCER_EPOCH}
    assert (await client.end(True)).error == Code.INVALID_TXN_STATE
    assert client.identity == mine
    # it was a time-out, no twin: the question with the own identity is answered with the next epoch
    assert (await client.init(mine)).identity == ProducerIdentity(mine.producer_id, mine.epoch + 1)
    await client.produce(partition, b"new")
    assert (await client.end(True)).error == 0
    await settle(world, partition)
    assert await world.read(partition, committed_only=True) == [b"new"]


# The epochs of a producer id are used up: 0 to 32,766 are given to clients

LAST_EPOCH = 32_766


async def _exhausted(world: World, name: str, timeout_ms: int = 60_000) -> Client:
    """A client whose next transaction is the last of its producer id. An empty abort is the cheapest epoch."""
    client = Client(world, name, timeout_ms)
    await client.init()
    while client.identity.epoch < LAST_EPOCH:
        assert (await client.end(False)).error == 0
    return client


async def _rolls_over_at_its_end(world: World) -> None:
    partition = Partition(await world.topic("end"), 0)
    client = await _exhausted(world, "end")
    old = client.identity
    await client.produce(partition, b"1")
    rolled = await client.end(True)
    assert (rolled.error, rolled.identity.epoch) == (0, 0)
    assert rolled.identity.producer_id != old.producer_id
    assert await client.end(True, old) == rolled
    assert (await client.end(False, old)).error == Code.INVALID_TXN_STATE
    await settle(world, partition)
    assert (await client.produce(partition, b"late", sequence=1, identity=old)).error == Code.INVALID_PRODUCER_EPOCH
    await client.produce(partition, b"2")
    assert (await client.end(True)).identity == ProducerIdentity(rolled.identity.producer_id, 1)
    assert (await client.end(True, old)).error == Code.INVALID_PRODUCER_ID_MAPPING
    assert (await client.init(old)).error == Code.PRODUCER_FENCED
    await settle(world, partition)
    assert await world.read(partition, committed_only=True) == [b"1", b"2"]


async def _rolls_over_when_asked(world: World) -> None:
    client = await _exhausted(world, "ask")
    old = client.identity
    rolled = await client.init(old)
    assert (rolled.error, rolled.identity.epoch) == (0, 0)
    assert rolled.identity.producer_id != old.producer_id
    assert await client.init(old) == rolled


async def _rolls_over_when_fenced(world: World) -> None:
    partition = Partition(await world.topic("fence"), 0)
    old = await _exhausted(world, "fence")
    await old.produce(partition, b"zombie")
    new = Client(world, "fence")
    await new.init()
    assert new.identity.producer_id != old.identity.producer_id
    assert (await old.end(True)).error == Code.INVALID_PRODUCER_ID_MAPPING
    assert (await old.init(old.identity)).error == Code.PRODUCER_FENCED
    await new.produce(partition, b"new")
    await new.end(True)
    await settle(world, partition)
    assert await world.read(partition, committed_only=True) == [b"new"]


async def _rolls_over_after_a_timeout(world: World) -> None:
    partition = Partition(await world.topic("timeout"), 0)
    client = await _exhausted(world, "timeout", timeout_ms=1000)
    old = client.identity
    await client.produce(partition, b"late")
    await settle(world, partition)
    assert (await client.end(True)).error == Code.INVALID_TXN_STATE
    rolled = await client.init(old)
    assert (rolled.error, rolled.identity.epoch) == (0, 0)
    assert rolled.identity.producer_id != old.producer_id
    await client.produce(partition, b"new")
    await client.end(True)
    await settle(world, partition)
    assert await world.read(partition, committed_only=True) == [b"new"]


@trace
async def the_producer_id_rolls_over(world: World) -> None:
    await asyncio.gather(
        _rolls_over_at_its_end(world),
        _rolls_over_when_asked(world),
        _rolls_over_when_fenced(world),
        _rolls_over_after_a_timeout(world),
    )


# EndTxn: repeated, opposite, late


@trace
async def a_repeated_end_says_the_same(world: World) -> None:
    partition = Partition(await world.topic("t"), 0)
    client = Client(world, "a")
    await client.init()
    for outcome in (True, False):
        mine = client.identity
        await client.produce(partition, b"x")
        first = await client.end_once(outcome)
        assert first.error == 0
        again = await client.end_once(outcome, mine)
        assert again.error in (0, Code.CONCURRENT_TRANSACTIONS)
        assert await client.end(outcome, mine) == first
        assert (await client.end(not outcome, mine)).error == Code.INVALID_TXN_STATE
        await settle(world, partition)
    assert await world.read(partition, committed_only=True) == [b"x"]


@trace
async def a_late_end_of_an_older_epoch_is_refused(world: World) -> None:
    partition = Partition(await world.topic("t"), 0)
    client = Client(world, "a")
    await client.init()
    old = client.identity
    await client.produce(partition, b"1")
    await client.end(True)
    await client.produce(partition, b"half")
    assert (await client.end(True, old)).error == Code.PRODUCER_FENCED
    assert (await client.end(False, old)).error == Code.PRODUCER_FENCED
    await client.produce(partition, b"other half", sequence=1)
    await client.end(True)
    await client.produce(partition, b"3")
    await client.end(True)
    assert (await client.end(True, old)).error == Code.PRODUCER_FENCED
    await settle(world, partition)
    assert await world.read(partition, committed_only=True) == [b"1", b"half", b"other half", b"3"]


@trace
async def the_end_of_nothing(world: World) -> None:
    client = Client(world, "a")
    await client.init()
    first = client.identity
    assert (await client.end(True)).error == Code.INVALID_TXN_STATE
    assert (await client.end(False)).identity == ProducerIdentity(first.producer_id, first.epoch + 1)
    assert (await client.end(False, first)).identity == ProducerIdentity(first.producer_id, first.epoch + 1)
    assert (await client.end(True)).error == Code.INVALID_TXN_STATE
    assert (await client.end(False)).identity.epoch == first.epoch + 2


# Produce: sequences, repeated and late batches, content


@trace
async def a_repeated_batch_is_appended_once(world: World) -> None:
    partition = Partition(await world.topic("t"), 0)
    client = Client(world, "a")
    await client.init()
    assert (await client.produce(partition, b"0", b"1"))[:2] == (0, 0)
    for sequence in range(2, 6):
        assert (await client.produce(partition, b"%d" % sequence, sequence=sequence))[:2] == (0, sequence)
    assert (await client.produce(partition, b"0", b"1"))[:2] == (0, 0)
    assert (await client.produce(partition, b"5", sequence=5))[:2] == (0, 5)
    # the sixth last is not remembered, so it is out of order
    assert (await client.produce(partition, b"6", sequence=6))[:2] == (0, 6)
    assert (await client.produce(partition, b"0", b"1")).error == Code.OUT_OF_ORDER_SEQUENCE_NUMBER
    await client.end(True)
    await settle(world, partition)
    assert await world.read(partition, committed_only=True) == [b"%d" % value for value in range(7)]


@trace
async def a_gap_in_the_sequence(world: World) -> None:
    topic = await world.topic("t", 2)
    partition, other = Partition(topic, 0), Partition(topic, 1)
    client = Client(world, "a")
    await client.init()
    assert (await client.produce(partition, b"0")).error == 0
    assert (await client.produce(partition, b"2", sequence=2)).error == Code.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert (await client.produce(other, b"1", sequence=1)).error == Code.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert (await client.produce(partition, b"1", sequence=1)).error == 0
    await client.end(True)
    # each epoch begins at 0 again
    assert (await client.produce(partition, b"2", sequence=2)).error == Code.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert (await client.produce(partition, b"2", sequence=0)).error == 0
    await client.end(True)
    await settle(world, partition)
    assert await world.read(partition, committed_only=True) == [b"0", b"1", b"2"]


@trace
async def a_late_batch_of_an_older_epoch_is_refused(world: World) -> None:
    topic = await world.topic("t", 2)
    partition, other = Partition(topic, 0), Partition(topic, 1)
    client = Client(world, "a")
    await client.init()
    old = client.identity
    await client.produce(partition, b"1")
    await client.end(True)
    # Until the marker is written the log still takes a batch of the epoch that was ended, here as in Kafka. No client
    # whose every batch was answered can have one on its way.
    await settle(world, partition)
    # between transactions, also the very same batch, also to a partition that never saw this producer
    assert (await client.produce(partition, b"late", sequence=1, identity=old)).error == Code.INVALID_PRODUCER_EPOCH
    assert (await client.produce(partition, b"1", identity=old)).error == Code.INVALID_PRODUCER_EPOCH
    assert (await client.produce(other, b"late", identity=old)).error == Code.INVALID_PRODUCER_EPOCH
    # within the next one
    await client.produce(partition, b"2")
    assert (await client.produce(partition, b"late", sequence=1, identity=old)).error == Code.INVALID_PRODUCER_EPOCH
    await client.end(True)
    await settle(world, partition)
    assert await world.read(partition, committed_only=True) == [b"1", b"2"]


@trace
async def an_epoch_from_the_future(world: World) -> None:
    partition = Partition(await world.topic("t"), 0)
    client = Client(world, "a")
    await client.init()
    future = ProducerIdentity(client.identity.producer_id, client.identity.epoch + 5)
    assert (await client.produce(partition, b"x", identity=future)).error == Code.INVALID_PRODUCER_EPOCH
    assert (await client.end(True, future)).error == Code.PRODUCER_FENCED
    assert (await client.init(future)).error == Code.PRODUCER_FENCED


@trace
async def a_batch_too_large(world: World) -> None:
    partition = Partition(await world.topic("t", max_message_bytes=1000), 0)
    client = Client(world, "a")
    await client.init()
    assert (await client.produce(partition, b"x" * 2000)).error == Code.MESSAGE_TOO_LARGE
    # nothing was appended, so the sequence is free
    assert (await client.produce(partition, b"x")).error == 0
    await client.end(True)
    await settle(world, partition)
    assert await world.read(partition, committed_only=True) == [b"x"]


@trace
async def a_transaction_of_nothing_but_a_refused_batch(world: World) -> None:
    partition = Partition(await world.topic("t", max_message_bytes=1000), 0)
    client = Client(world, "a")
    await client.init()
    await client.produce(partition, b"x" * 2000)
    assert (await client.end(True)).error == 0  # the partition had joined before its batch was refused
    await _until(lambda: ends(world, partition), Outcome(1, 1))
    assert await world.read(partition, committed_only=True) == []


@trace
async def a_compacted_topic_refuses_records_without_key(world: World) -> None:
    partition = Partition(await world.topic("t", compacted=True), 0)
    client = Client(world, "a")
    await client.init()
    now_ms = world.now_ms()
    refused = await client.produce_contents(partition, [(b"k", b"1", now_ms, ()), (None, b"2", now_ms, ())])
    assert refused.error == Code.INVALID_RECORD
    assert [index for index, _ in refused.record_errors] == [1]
    assert (await client.produce(partition, b"1")).error == 0


@trace
async def a_timestamp_out_of_bounds(world: World) -> None:
    bounds = {"timestamp_before_max_ms": 3_600_000, "timestamp_after_max_ms": 3_600_000}
    bounded = Partition(await world.topic("bounded", **bounds), 0)
    stamped = Partition(await world.topic("stamped", append_time=True), 0)
    client = Client(world, "a")
    await client.init()
    now_ms = world.now_ms()
    for shift_ms in (-7_200_000, 7_200_000):
        content = [(b"k", b"x", now_ms + shift_ms, ())]
        assert (await client.produce_contents(bounded, content)).error == Code.INVALID_TIMESTAMP
        mixed = [(b"k", b"a", now_ms, ()), *content, (b"k", b"b", now_ms, ())]
        assert (await client.produce_contents(bounded, mixed)).error == Code.INVALID_TIMESTAMP
    taken = await client.produce_contents(stamped, [(b"k", b"x", now_ms - 10**10, ())])
    assert taken.error == 0
    assert abs(taken.append_time_ms - now_ms) < 60_000
    assert (await client.produce(bounded, b"x")).append_time_ms == -1


@trace
async def topics_are_described(world: World) -> None:
    topic = await world.topic("t", 3, max_message_bytes=5000, compacted=True, append_time=True)
    found = await world.cluster.describe_topic(topic)
    assert (found.error, found.partition_count, found.max_message_bytes) == (0, 3, 5000)
    assert (found.compacted, found.append_time) == (True, True)
    assert (await world.cluster.describe_topic(f"{world.prefix}-none")).error == Code.UNKNOWN_TOPIC_OR_PARTITION
    assert (await world.cluster.features()).transaction_version >= 2


@trace
async def an_unknown_topic(world: World) -> None:
    unknown = Partition(f"{world.prefix}-none", 0)
    known = Partition(await world.topic("t"), 0)
    client = Client(world, "a")
    await client.init()
    assert await world.cluster.leaders([unknown, known, Partition(known.topic, 5)]) == await world.cluster.leaders(
        [known]
    )
    client.elsewhere = known
    assert (await client.produce(unknown, b"x")).error == Code.UNKNOWN_TOPIC_OR_PARTITION
    unchecked = Membership(f"{world.prefix}-g", *UNSEATED)
    answer = await client.offsets(unchecked, {unknown: 1, known: 2})
    assert answer == {unknown: Code.UNKNOWN_TOPIC_OR_PARTITION, known: 0}
    await client.end(True)
    assert await settled_offset(world, unchecked.group, known) == 2


# Membership: whose offsets are taken


@trace
async def offsets_need_the_current_seat(world: World) -> None:
    partition = Partition(await world.topic("t"), 0)
    group, client = f"{world.prefix}-g", Client(world, "a")
    await client.init()
    membership = await seat(world, group)
    wrong_generation = membership._replace(generation=membership.generation + 1)
    assert await client.offsets(wrong_generation, {partition: 1}) == {partition: Code.ILLEGAL_GENERATION}
    stranger = membership._replace(member_id="stranger")
    assert await client.offsets(stranger, {partition: 1}) == {partition: Code.UNKNOWN_MEMBER_ID}
    no_instance = membership._replace(instance_id="nobody")
    assert await client.offsets(no_instance, {partition: 1}) == {partition: Code.UNKNOWN_MEMBER_ID}
    assert await client.offsets(membership, {partition: 1}) == {partition: 0}
    assert (await client.end(True)).error == 0
    assert await settled_offset(world, group, partition) == 1


@trace
async def late_offsets_of_an_older_epoch_are_refused(world: World) -> None:
    partition = Partition(await world.topic("t"), 0)
    group, client = f"{world.prefix}-g", Client(world, "a")
    await client.init()
    membership = await seat(world, group)
    old = client.identity
    await client.offsets(membership, {partition: 1})
    await client.end(True)
    assert await settled_offset(world, group, partition) == 1
    assert await client.offsets(membership, {partition: 9}, old) == {partition: Code.INVALID_PRODUCER_EPOCH}
    await client.offsets(membership, {partition: 2})
    assert await client.offsets(membership, {partition: 9}, old) == {partition: Code.INVALID_PRODUCER_EPOCH}
    await client.end(True)
    assert await settled_offset(world, group, partition) == 2


@trace
async def without_a_membership_nothing_is_checked(world: World) -> None:
    partition = Partition(await world.topic("t"), 0)
    group, client = f"{world.prefix}-g", Client(world, "a")
    await client.init()
    await seat(world, group)
    assert await client.offsets(Membership(group, *UNSEATED), {partition: 5}) == {partition: 0}
    await client.end(True)
    assert await settled_offset(world, group, partition) == 5


@trace
async def a_group_nobody_joined(world: World) -> None:
    partition = Partition(await world.topic("t"), 0)
    group, client = f"{world.prefix}-g", Client(world, "a")
    await client.init()
    assert await committed(world, group, partition) == (0, -1)
    assert await client.offsets(Membership(group, 1, "m"), {partition: 5}) == {partition: Code.ILLEGAL_GENERATION}
    assert await client.offsets(Membership(group, *UNSEATED), {partition: 5}) == {partition: 0}
    await client.end(True)
    assert await settled_offset(world, group, partition) == 5


@trace
async def a_departed_member(world: World) -> None:
    partition = Partition(await world.topic("t"), 0)
    group, client = f"{world.prefix}-g", Client(world, "a")
    await client.init()
    membership = await seat(world, group)
    assert await world.leave(membership) == 0
    assert await client.offsets(membership, {partition: 1}) == {partition: Code.UNKNOWN_MEMBER_ID}
    assert await world.heartbeat(membership) == Code.UNKNOWN_MEMBER_ID
    assert await world.leave(membership) == Code.UNKNOWN_MEMBER_ID


@trace
async def a_session_that_ran_out(world: World) -> None:
    partition = Partition(await world.topic("t"), 0)
    group, client = f"{world.prefix}-g", Client(world, "a")
    await client.init()
    membership = await seat(world, group, session_timeout_ms=6000)
    await _until(lambda: client.offsets(membership, {partition: 1}), {partition: int(Code.UNKNOWN_MEMBER_ID)}, 1.0)


@trace
async def the_old_generation_counts_until_the_next_begins(world: World) -> None:
    partition = Partition(await world.topic("t"), 0)
    group, client = f"{world.prefix}-g", Client(world, "a")
    await client.init()
    first = await seat(world, group)
    newcomer = asyncio.ensure_future(world.join(Join(group, subscription=b"topics", rebalance_timeout_ms=10_000)))
    await _until(lambda: world.heartbeat(first), Code.REBALANCE_IN_PROGRESS)
    assert await client.offsets(first, {partition: 4}) == {partition: 0}
    assert (await world.sync(first, {}))[0] == Code.REBALANCE_IN_PROGRESS
    rejoined = await world.join(Join(group, first.member_id, subscription=b"topics", rebalance_timeout_ms=10_000))
    joined = await newcomer
    assert (rejoined.error, rejoined.generation, rejoined.leader) == (0, first.generation + 1, first.member_id)
    assert joined.generation == first.generation + 1
    assert {member for member, _ in rejoined.members} == {first.member_id, joined.member_id}
    assert joined.members == ()
    assert await client.offsets(first, {partition: 9}) == {partition: Code.ILLEGAL_GENERATION}
    assert await world.heartbeat(first) == Code.ILLEGAL_GENERATION
    current = first._replace(generation=rejoined.generation)
    # the new generation counts before its assignment is known
    assert await client.offsets(current, {partition: 5}) == {partition: 0}
    follower = Membership(group, joined.generation, joined.member_id)
    waiting = asyncio.ensure_future(world.sync(follower, {}))
    assert await world.sync(current, {first.member_id: b"A", joined.member_id: b"B"}) == (0, b"A")
    assert await waiting == (0, b"B")
    await client.end(True)
    assert await settled_offset(world, group, partition) == 5


@trace
async def a_static_member_comes_back(world: World) -> None:
    partition = Partition(await world.topic("t"), 0)
    group, client = f"{world.prefix}-g", Client(world, "a")
    await client.init()
    old = await seat(world, group, "one")
    back = await world.join(Join(group, "", "one", 10_000, 10_000, b"topics"))
    assert (back.error, back.generation) == (0, old.generation)
    assert back.member_id != old.member_id
    new = Membership(group, back.generation, back.member_id, "one")
    assert await world.sync(new, {}) == (0, b"everything")
    assert await client.offsets(old, {partition: 1}) == {partition: Code.FENCED_INSTANCE_ID}
    assert (await world.sync(old, {}))[0] == Code.FENCED_INSTANCE_ID
    assert (await world.join(Join(group, old.member_id, "one", 10_000, 10_000, b"topics"))).error == (
        Code.FENCED_INSTANCE_ID
    )
    assert await world.heartbeat(old) == Code.UNKNOWN_MEMBER_ID  # without the instance id in it
    assert await world.heartbeat(new) == 0
    # an old member that does not name its instance is unknown
    nameless = old._replace(instance_id=None)
    assert await client.offsets(nameless, {partition: 1}) == {partition: Code.UNKNOWN_MEMBER_ID}
    assert await client.offsets(new, {partition: 2}) == {partition: 0}
    await client.end(True)
    assert await settled_offset(world, group, partition) == 2


@trace
async def offsets_are_unstable_until_their_marker(world: World) -> None:
    partition = Partition(await world.topic("t"), 0)
    group, dead, heir = f"{world.prefix}-g", Client(world, "dead"), Client(world, "heir")
    await dead.init()
    membership = await seat(world, group)
    await dead.offsets(membership, {partition: 3})
    assert await committed(world, group, partition) == (Code.UNSTABLE_OFFSET_COMMIT, -1)
    # another partition of the group is not touched by it
    assert await committed(world, group, Partition(partition.topic, 1)) == (0, -1)
    await heir.init()
    await heir.offsets(membership, {partition: 4})
    await heir.end(True)
    assert (await committed(world, group, partition))[0] == Code.UNSTABLE_OFFSET_COMMIT
    await _until(lambda: committed(world, group, partition, stable=False), (0, 4))
    await dead.end(False)
    assert await settled_offset(world, group, partition) == 4


@trace
async def a_topic_has_an_id_and_its_records_a_leader_epoch(world: World) -> None:
    name = await world.topic("t")
    partition, client = Partition(name, 0), Client(world, "a")
    assert (await client.init()).error == 0
    await client.produce(partition, b"1", b"2")
    await client.end(True)
    await settle(world, partition)
    described = await world.cluster.describe_topic(name)
    assert await world.cluster.topic_ids([name, f"{name}-none"]) == {name: described.topic_id}
    assert len(described.topic_id) == 22 and described.leader_epochs == (0,)
    assert await world.cluster.epoch_ends({partition: 0}) == {partition: EpochEnd(Code.NONE, 3)}
    assert await world.cluster.epoch_ends({partition: 7}) == {partition: EpochEnd(Code.NONE, -1)}


async def _high(world: World, partition: Partition) -> int:
    return (await ends(world, partition)).high


async def _until(ask: Callable[[], Awaitable[object]], wanted: object, pause_s: float = 0.02) -> object:
    """Ask until the answer is the wanted one, for at most 60 s."""
    async with asyncio.timeout(60):
        while (answer := await ask()) != wanted:  # noqa: ASYNC110  (the other side is a broker)
            await asyncio.sleep(pause_s)
    return answer


@pytest.mark.parametrize("scenario", TRACES, ids=lambda scenario: scenario.__name__)
def test_memory(scenario: Trace) -> None:
    run(lambda loop: scenario(MemoryWorld("m")))


@pytest.mark.kafka
@pytest.mark.timeout(300)  # the roll-over asks 131,000 times
@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(scenario, marks=pytest.mark.slow if scenario is the_producer_id_rolls_over else ())
        for scenario in TRACES
    ],
    ids=lambda scenario: scenario.__name__,
)
def test_kafka(scenario: Trace, kafka: object) -> None:
    async def main() -> None:
        async with open_kafka(f"c-{uuid.uuid4().hex[:8]}", kafka.bootstrap) as world:  # type: ignore[attr-defined]
            await scenario(world)

    asyncio.run(main())

"""The exactly-once core on a real broker: what is committed is there once, what is not is nowhere."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import confluent_kafka
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic

from streamapp.client.cluster import KafkaCluster, connect
from streamapp.eos.batches import Compression
from streamapp.eos.cluster import Cluster, NoAnswer
from streamapp.eos.commit import commit
from streamapp.eos.producer import Producer, Written
from streamapp.eos.protocol import (
    EndTxn,
    ListOffsets,
    Membership,
    OffsetOf,
    Produce,
    TopicDescription,
    TxnOffsetCommit,
)
from streamapp.eos.recovery import RestoreProgress, restore, restore_plans, stable_offsets
from streamapp.eos.remedies import ContentRefused
from streamapp.eos.transaction import TransactionState
from streamapp.errors import ConfigurationError, Fenced, InstanceFenced, RecordError, TransactionAborted
from streamapp.types import Partition

pytestmark = pytest.mark.kafka

PARTITIONS = 2
#: More than anything here takes; reached only when something is broken.
BOUND_S = 60.0


class Seen(NamedTuple):
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: list[tuple[str, bytes | None]]


class Bench:
    """One test's topics, group, members and producers on the shared broker."""

    def __init__(self, bootstrap: str, prefix: str, cluster: KafkaCluster, stack: AsyncExitStack) -> None:
        self.bootstrap = bootstrap
        self.cluster = cluster
        self.group = f"{prefix}-group"
        self.out = f"{prefix}-out"
        self.input = Partition(f"{prefix}-in", 0)
        self.transactional_id = f"{prefix}-1"
        self._prefix = prefix
        self._stack = stack
        self._admin = AdminClient({"bootstrap.servers": bootstrap})

    async def create(self, *topics: str, **config: str) -> None:
        new = [NewTopic(topic, PARTITIONS, 1, config=config) for topic in topics]
        for future in self._admin.create_topics(new).values():
            await asyncio.wrap_future(future)

    async def configure(self, topic: str, name: str, value: str) -> None:
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource("topic", topic, incremental_configs=[entry])
        for future in self._admin.incremental_alter_configs([resource]).values():
            await asyncio.wrap_future(future)

    async def until_refused(self, key: bytes | None, value: bytes) -> None:
        """Until a change of the output topic's settings has reached the log, tried by transactions that abort."""
        probe = Producer(self.cluster, f"{self._prefix}-probe", transaction_timeout_s=10)
        probe._topics[self.out] = TopicDescription(self.out, partition_count=PARTITIONS)
        await probe.start()

        async def refused() -> bool:
            probe.append(self.out, 0, key, value)
            try:
                await probe.produce()
            except ContentRefused:
                return True
            finally:
                await probe.abort()
            return False

        await eventually(refused)

    async def join(self) -> tuple[Any, Membership]:
        """A member of the group, and its seat as it was when its partitions were assigned."""
        consumer = AIOKafkaConsumer(
            self.input.topic,
            bootstrap_servers=self.bootstrap,
            group_id=self.group,
            enable_auto_commit=False,
            session_timeout_ms=10_000,
            heartbeat_interval_ms=200,
        )
        await consumer.start()
        self._stack.push_async_callback(consumer.stop)
        await eventually(lambda: bool(consumer.assignment()))
        return consumer, seat_of(consumer)

    async def producer(self, cluster: Cluster | None = None, **options: Any) -> Producer:
        options = {"transaction_timeout_s": 10, **options}
        producer = Producer(cluster or self.cluster, self.transactional_id, **options)
        await asyncio.wait_for(producer.start(), BOUND_S)
        await producer.ensure(self.out)
        return producer

    async def committed(self) -> int | None:
        return (await stable_offsets(self.cluster, self.group, [self.input]))[self.input]

    async def settled(self, topic: str) -> None:
        """Until every transaction on the topic is decided and its markers are written."""
        partitions = tuple(Partition(topic, number) for number in range(PARTITIONS))

        async def decided() -> bool:
            stable = await self.cluster.list_offsets(ListOffsets(partitions, OffsetOf.LAST_STABLE))
            return stable == await self.cluster.list_offsets(ListOffsets(partitions, OffsetOf.HIGH_WATERMARK))

        await eventually(decided)

    async def read(self, topic: str | None = None) -> list[Seen]:
        """Everything a read_committed reader of another client sees, once nothing is undecided."""
        topic = topic or self.out
        await self.settled(topic)
        return await asyncio.to_thread(read_committed, self.bootstrap, topic, f"{self._prefix}-auditor")

    async def values(self) -> list[bytes | None]:
        return sorted(one.value or b"" for one in await self.read())


def read_committed(bootstrap: str, topic: str, group: str) -> list[Seen]:
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,
        }
    )
    try:
        consumer.assign([confluent_kafka.TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
        seen, ended = [], set()
        while len(ended) < PARTITIONS:
            message = consumer.poll(BOUND_S)
            assert message is not None, "the reader got nothing, not even an end"
            if message.error() is None:
                seen.append(
                    Seen(
                        message.partition(),
                        message.offset(),
                        message.key(),
                        message.value(),
                        message.timestamp()[1],
                        message.headers() or [],
                    )
                )
            else:
                assert message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF, message.error()
                ended.add(message.partition())
        return seen
    finally:
        consumer.close()


def seat_of(consumer: Any) -> Membership:
    coordinator = consumer._coordinator
    return Membership(coordinator.group_id, coordinator.generation, coordinator.member_id)


async def eventually(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    async def poll() -> None:
        while True:
            outcome = condition()
            if outcome if isinstance(outcome, bool) else await outcome:
                return
            await asyncio.sleep(0.01)

    await asyncio.wait_for(poll(), BOUND_S)


@pytest.fixture
async def bench(kafka: Any, topic_prefix: str) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        cluster = await connect(kafka.bootstrap, request_timeout_s=5)
        stack.push_async_callback(cluster.close)
        bench = Bench(kafka.bootstrap, topic_prefix, cluster, stack)
        await bench.create(bench.input.topic, bench.out)
        yield bench


# --- what is visible


async def test_a_commit_shows_outputs_and_offset_together_and_an_abort_neither(bench: Bench) -> None:
    _, seat = await bench.join()
    producer = await bench.producer()
    for number in range(3):
        producer.append(bench.out, number % PARTITIONS, b"k", b"one-%d" % number)
    written = await commit(producer, {bench.input: 3}, seat)
    assert written == {Partition(bench.out, 0): Written(0, 2), Partition(bench.out, 1): Written(0, 1)}
    assert await bench.values() == [b"one-0", b"one-1", b"one-2"]
    assert await bench.committed() == 3

    producer.append(bench.out, 0, b"k", b"two-aborted")
    await producer.produce()
    await producer.bind({bench.input: 9}, seat)
    await producer.abort()
    producer.append(bench.out, 0, b"k", b"three")
    await commit(producer, {bench.input: 4}, seat)
    assert await bench.values() == [b"one-0", b"one-1", b"one-2", b"three"]
    assert await bench.committed() == 4


async def test_until_the_end_nothing_is_visible_and_the_offsets_are_undecided(bench: Bench) -> None:
    _, seat = await bench.join()
    producer = await bench.producer()
    producer.append(bench.out, 0, b"k", b"open")
    await producer.produce()
    await producer.bind({bench.input: 5}, seat)
    reader = asyncio.to_thread(read_committed, bench.bootstrap, bench.out, bench.group + "-reader")
    assert await reader == []
    waited: list[float] = []
    asking = asyncio.create_task(
        stable_offsets(bench.cluster, bench.group, [bench.input], on_wait=lambda _, seconds: waited.append(seconds))
    )
    await eventually(lambda: len(waited) > 2)
    assert not asking.done()
    await producer.end()
    assert await asking == {bench.input: 5}
    assert await bench.values() == [b"open"]


async def test_records_arrive_as_they_were_sent(bench: Bench) -> None:
    _, seat = await bench.join()
    producer = await bench.producer()
    producer.append(bench.out, 0, b"key", b"value", [("a", b"1"), ("a", b"2"), ("none", None)], 1_700_000_000_123)
    producer.append(bench.out, 0, None, b"no key")
    producer.append(bench.out, 0, b"tombstone", None)
    producer.append(bench.out, 0, b"", b"", ())
    await commit(producer, {bench.input: 1}, seat)
    first, *others = await bench.read()
    assert first == (0, 0, b"key", b"value", 1_700_000_000_123, [("a", b"1"), ("a", b"2"), ("none", None)])
    assert [(one.key, one.value, one.headers) for one in others] == [
        (None, b"no key", []),
        (b"tombstone", None, []),
        (b"", b"", []),
    ]


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_each_compression_and_several_batches_a_partition(bench: Bench, compression: Compression) -> None:
    _, seat = await bench.join()
    producer = await bench.producer(compression=compression, batch_bytes=20_000)
    sent = [b"%05d " % number + b"transfer " * 20 for number in range(1000)]
    for number, value in enumerate(sent):
        producer.append(bench.out, number % PARTITIONS, b"k%d" % number, value)
    written = await commit(producer, {bench.input: 1000}, seat)
    assert {one.next_offset for one in written.values()} == {500}
    seen = await bench.read()
    for partition in range(PARTITIONS):
        assert [one.value for one in seen if one.partition == partition] == sent[partition::PARTITIONS]


async def test_five_hundred_small_transactions_in_a_row(bench: Bench) -> None:
    _, seat = await bench.join()
    producer = await bench.producer()
    for number in range(500):
        producer.append(bench.out, number % PARTITIONS, b"k", b"%d" % number)
        await commit(producer, {bench.input: number + 1}, seat)
    assert Counter(await bench.values()) == Counter(b"%d" % number for number in range(500))
    assert await bench.committed() == 500


async def test_a_topic_made_after_the_start_is_found_and_one_never_made_is_refused(bench: Bench) -> None:
    _, seat = await bench.join()
    producer = await bench.producer()
    late = bench.out + "-late"
    looking = asyncio.create_task(producer.ensure(late))
    await asyncio.sleep(0.05)
    await bench.create(late)
    assert (await looking).partition_count == PARTITIONS
    producer.append(late, producer.partition_for(late, b"k"), b"k", b"v")
    await commit(producer, {bench.input: 1}, seat)
    assert [one.value for one in await bench.read(late)] == [b"v"]
    assert (await bench.cluster.describe_topic(bench.out + "-never")).error == 3


async def test_keys_go_where_kafkas_own_clients_send_them(bench: Bench) -> None:
    producer = await bench.producer()
    keys = [f"account-{number}".encode() for number in range(50)]
    other = confluent_kafka.Producer({"bootstrap.servers": bench.bootstrap, "partitioner": "murmur2_random"})
    landed: dict[bytes, int] = {}
    for key in keys:
        other.produce(bench.out, b"v", key, on_delivery=lambda _, m: landed.update({m.key(): m.partition()}))
    await asyncio.to_thread(other.flush, BOUND_S)
    assert {key: producer.partition_for(bench.out, key) for key in keys} == landed


# --- refusals


async def test_what_would_fail_at_the_commit_is_refused_at_the_append(bench: Bench) -> None:
    _, seat = await bench.join()
    compacted = bench.out + "-compacted"
    await bench.create(compacted, **{"cleanup.policy": "compact", "max.message.bytes": "2000"})
    producer = await bench.producer()
    await producer.ensure(compacted)
    for key, value, timestamp_ms in [
        (None, b"v", None),
        (b"k", b"v" * 3000, None),
        (b"k", b"v", -1),
        (b"k", b"v", 2**60),
    ]:
        with pytest.raises(RecordError):
            producer.append(compacted, 0, key, value, (), timestamp_ms)
    producer.append(compacted, 0, b"k", b"v" * 1800)
    await commit(producer, {bench.input: 1}, seat)
    assert [one.value for one in await bench.read(compacted)] == [b"v" * 1800]


async def test_a_limit_lowered_behind_our_back_aborts_and_names_the_partition(bench: Bench) -> None:
    _, seat = await bench.join()
    producer = await bench.producer()
    producer.append(bench.out, 0, b"k", b"small")
    producer.append(bench.out, 1, b"k", b"v" * 3000)
    await bench.configure(bench.out, "max.message.bytes", "1000")
    await bench.until_refused(b"k", b"v" * 3000)
    with pytest.raises(ContentRefused) as refused:
        await commit(producer, {bench.input: 1}, seat)
    assert (refused.value.partition, refused.value.code) == ((bench.out, 1), 10)
    with pytest.raises(RecordError, match="1,000"):
        producer.append(bench.out, 1, b"k", b"v" * 3000)
    producer.append(bench.out, 0, b"k", b"small")
    await commit(producer, {bench.input: 1}, seat)
    assert await bench.values() == [b"small"], "nothing of the refused transaction, and it is not lost either"


async def test_a_key_that_is_missed_only_after_the_fact_is_a_matter_of_content(bench: Bench) -> None:
    _, seat = await bench.join()
    producer = await bench.producer()
    producer.append(bench.out, 0, None, b"v")
    await bench.configure(bench.out, "cleanup.policy", "compact")
    await bench.until_refused(None, b"v")
    with pytest.raises(ContentRefused) as refused:
        await commit(producer, {bench.input: 1}, seat)
    assert (refused.value.code, refused.value.record_indexes) == (87, (0,))


async def test_a_transaction_time_out_the_broker_does_not_allow_is_refused(bench: Bench) -> None:
    with pytest.raises(ConfigurationError, match="INVALID_TRANSACTION_TIMEOUT"):
        await bench.producer(transaction_timeout_s=100_000)


# --- fencing


async def test_a_stale_generation_is_fenced(bench: Bench) -> None:
    consumer, seat = await bench.join()
    await bench.join()
    await eventually(lambda: seat_of(consumer).generation > seat.generation)
    producer = await bench.producer()
    producer.append(bench.out, 0, b"k", b"zombie")
    with pytest.raises(Fenced, match="22") as fenced:
        await commit(producer, {bench.input: 7}, seat)
    assert type(fenced.value) is Fenced
    assert await bench.values() == []
    assert await bench.committed() is None
    await eventually(lambda: bool(consumer.assignment()))
    producer.append(bench.out, 0, b"k", b"rejoined")
    await commit(producer, {bench.input: 1}, seat_of(consumer))
    assert await bench.values() == [b"rejoined"]


async def test_a_departed_member_is_fenced(bench: Bench) -> None:
    consumer, seat = await bench.join()
    await bench.join()
    await consumer.stop()
    producer = await bench.producer()
    producer.append(bench.out, 0, b"k", b"zombie")
    with pytest.raises(Fenced, match=r"2[25] "):
        await commit(producer, {bench.input: 7}, seat)
    with pytest.raises(Fenced, match="25"):
        await commit(producer, {bench.input: 7}, seat._replace(member_id="never-was"))
    assert await bench.values() == []
    assert await bench.committed() is None


@pytest.mark.parametrize("moment", ["nothing sent", "produced", "bound"])
async def test_a_twin_of_the_same_id_fences_the_older(bench: Bench, moment: str) -> None:
    _, seat = await bench.join()
    older = await bench.producer()
    older.append(bench.out, 0, b"k", b"older")
    if moment != "nothing sent":
        await older.produce()
    if moment == "bound":
        await older.bind({bench.input: 7}, seat)
    newer = await bench.producer()
    with pytest.raises(InstanceFenced):
        if moment == "nothing sent":
            await commit(older, {bench.input: 7}, seat)
        elif moment == "produced":
            await older.bind({bench.input: 7}, seat)
        else:
            await older.end()
    assert older.state is TransactionState.FENCED
    newer.append(bench.out, 0, b"k", b"newer")
    await commit(newer, {bench.input: 1}, seat)
    await newer.confirm()
    assert await bench.values() == [b"newer"]
    assert await bench.committed() == 1


async def test_the_question_before_rejoining_tells_a_twin_from_nobody(bench: Bench) -> None:
    older = await bench.producer()
    await older.confirm()
    await bench.producer()
    with pytest.raises(InstanceFenced, match=bench.transactional_id):
        await older.confirm()


@pytest.mark.parametrize("step", ["bind", "end"])
async def test_a_time_out_is_an_abort_and_not_a_fence(bench: Bench, step: str) -> None:
    _, seat = await bench.join()
    producer = await bench.producer(transaction_timeout_s=2)  # longer than what comes before it is over
    producer.append(bench.out, 0, b"k", b"timed out")
    await producer.produce()
    if step == "end":
        await producer.bind({bench.input: 7}, seat)
    await bench.settled(bench.out)
    with pytest.raises(TransactionAborted):
        await (producer.end() if step == "end" else producer.bind({bench.input: 7}, seat))
    await producer.abort()
    producer.append(bench.out, 0, b"k", b"afterwards")
    await commit(producer, {bench.input: 1}, seat)
    assert await bench.values() == [b"afterwards"]
    assert await bench.committed() == 1


async def test_what_arrives_late_from_an_older_epoch_is_refused(bench: Bench) -> None:
    """KAFKA-17754: on protocol v1 a delayed EndTxn committed half of the next transaction."""
    _, seat = await bench.join()
    network = Network(bench.cluster)
    producer = await bench.producer(network)
    producer.append(bench.out, 0, b"k", b"first")
    await commit(producer, {bench.input: 1}, seat)
    producer.append(bench.out, 0, b"k", b"second, first half")
    await producer.produce()
    node, late = network.produced[0]
    answer = await bench.cluster.produce(node, late)
    assert answer[Partition(bench.out, 0)].error == 47, "a delayed Produce of the first transaction"
    (late_offsets,) = network.bound
    answer_bind = await bench.cluster.commit_offsets(late_offsets)
    assert set(answer_bind.values()) <= {47, 90}, "a delayed TxnOffsetCommit of the first transaction"
    for late_end in network.ended:
        answer_end = await bench.cluster.end_transaction(late_end)
        assert answer_end.error in (47, 90), "a delayed EndTxn of the first transaction"
    assert [one.value for one in await asyncio.to_thread(read_committed, bench.bootstrap, bench.out, bench.group)] == [
        b"first"
    ]
    await producer.bind({bench.input: 2}, seat)
    await producer.end()
    assert await bench.values() == [b"first", b"second, first half"]


# --- lost answers


class Network:
    """A cluster behind a bad network: of the calls named, every n-th loses its answer, or never arrives."""

    def __init__(self, cluster: Cluster, call: str = "", *, lose: str = "", every: int = 1) -> None:
        self._cluster = cluster
        self._call = call
        self._lose = lose
        self._every = every
        self._count = 0
        self.lost = 0
        self.produced: list[tuple[int, Produce]] = []
        self.bound: list[TxnOffsetCommit] = []
        self.ended: list[EndTxn] = []

    def __getattr__(self, name: str) -> Any:
        through = getattr(self._cluster, name)
        if name == "close":
            return through

        async def call(*arguments: Any) -> Any:
            if name == "produce":
                self.produced.append(arguments)  # type: ignore[arg-type]
            if name == "commit_offsets":
                self.bound.append(arguments[0])
            if name == "end_transaction":
                self.ended.append(arguments[0])
            hit = False
            if name == self._call:
                self._count += 1
                hit = self._count % self._every == 0
            if hit:
                self.lost += 1
                if self._lose == "answer":
                    await through(*arguments)
                raise NoAnswer(f"{name}: {self._lose} lost")
            return await through(*arguments)

        return call


CALLS = ["features", "describe_topic", "leaders", "init_producer_id", "produce", "commit_offsets", "end_transaction"]


@pytest.mark.parametrize("lose", ["request", "answer"])
@pytest.mark.parametrize("call", CALLS)
async def test_a_lost_answer_doubles_nothing_and_loses_nothing(bench: Bench, call: str, lose: str) -> None:
    _, seat = await bench.join()
    network = Network(bench.cluster, call, lose=lose, every=2)
    # The first call of each kind is lost, too: those of the start come only once.
    network._count = 1
    producer = await bench.producer(network, batch_bytes=300)
    sent = []
    for number in range(6):
        for copy in range(4):
            value = b"%d-%d-" % (number, copy) + b"." * 100
            producer.append(bench.out, copy % PARTITIONS, b"k", value)
            if number != 3:
                sent.append(value)
        if number == 3:
            await producer.produce()
            await producer.abort()
        else:
            await commit(producer, {bench.input: number + 1}, seat)
    assert network.lost > 0
    assert await bench.values() == sorted(sent)
    assert await bench.committed() == 6


async def test_a_commit_whose_answer_is_lost_again_and_again_happens_once(bench: Bench) -> None:
    _, seat = await bench.join()
    network = Network(bench.cluster, "end_transaction", lose="answer")
    producer = await bench.producer(network)
    producer.append(bench.out, 0, b"k", b"once")
    settled: list[Any] = []
    committing = asyncio.create_task(commit(producer, {bench.input: 1}, seat, settled.append))
    await eventually(lambda: network.lost >= 6)
    assert not committing.done()
    network._call = ""
    await asyncio.wait_for(committing, BOUND_S)
    assert len(settled) == 1
    assert len(set(network.ended)) == 1, "repeated unchanged"
    assert await bench.values() == [b"once"]
    producer.append(bench.out, 0, b"k", b"twice")
    await commit(producer, {bench.input: 2}, seat)
    assert await bench.values() == [b"once", b"twice"]


async def test_a_commit_that_timed_out_while_its_request_was_lost_is_an_abort(bench: Bench) -> None:
    _, seat = await bench.join()
    network = Network(bench.cluster, "end_transaction", lose="request")
    producer = await bench.producer(network, transaction_timeout_s=3)
    producer.append(bench.out, 0, b"k", b"never")
    committing = asyncio.create_task(commit(producer, {bench.input: 1}, seat))
    await eventually(lambda: network.lost >= 1)
    await bench.settled(bench.out)
    network._call = ""
    with pytest.raises(TransactionAborted, match="48"):
        await asyncio.wait_for(committing, BOUND_S)
    producer.append(bench.out, 0, b"k", b"again")
    await commit(producer, {bench.input: 1}, seat)
    assert await bench.values() == [b"again"]


async def test_a_twin_while_the_commit_is_in_doubt_leaves_nothing_torn(bench: Bench) -> None:
    """The commit happened, its answer is lost, and a twin starts: fenced, without a claim about the outcome."""
    _, seat = await bench.join()
    network = Network(bench.cluster, "end_transaction", lose="answer")
    older = await bench.producer(network)
    older.append(bench.out, 0, b"k", b"done")
    committing = asyncio.create_task(commit(older, {bench.input: 1}, seat))
    await eventually(lambda: network.lost >= 1)
    newer = await bench.producer()
    network._call = ""
    with pytest.raises(InstanceFenced):
        await asyncio.wait_for(committing, BOUND_S)
    assert await bench.values() == [b"done"]
    assert await bench.committed() == 1
    newer.append(bench.out, 0, b"k", b"next")
    await commit(newer, {bench.input: 2}, seat)
    assert await bench.values() == [b"done", b"next"]


async def test_cancelled_in_the_commit_it_is_settled_or_aborted(bench: Bench) -> None:
    _, seat = await bench.join()
    network = Network(bench.cluster)
    producer = await bench.producer(network)
    expected = []
    for number in range(30):
        settled: list[Any] = []
        value = b"%02d" % number
        producer.append(bench.out, 0, b"k", value)
        committing = asyncio.create_task(commit(producer, {bench.input: number + 1}, seat, settled.append))
        await asyncio.sleep(number % 10 * 0.0005)
        committing.cancel()
        if isinstance((await asyncio.gather(committing, return_exceptions=True))[0], BaseException) and not settled:
            await producer.abort()
        else:
            expected.append(value)
    assert await bench.values() == expected


# --- recovery


class ChangelogReader:
    """The driver's part: a read_committed consumer over one changelog partition."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self.applied: list[bytes] = []

    async def fetch(self) -> int:
        batches = await self._consumer.getmany(timeout_ms=50)
        records = [record for some in batches.values() for record in some]
        self.applied += [record.value for record in records]
        return len(records)

    async def position(self, changelog: Partition) -> int:
        (assigned,) = self._consumer.assignment()
        return int(await self._consumer.position(assigned))


async def test_a_restore_waits_out_a_dead_workers_transaction_and_misses_nothing(bench: Bench) -> None:
    _, seat = await bench.join()
    changelog = Partition(bench.out, 0)
    dead = Producer(bench.cluster, bench.transactional_id + "-dead", transaction_timeout_s=4)
    await dead.start()
    await dead.ensure(bench.out)
    alive = await bench.producer()
    alive.append(bench.out, 0, b"k", b"before")
    await commit(alive, {bench.input: 1}, seat)
    dead.append(bench.out, 0, b"k", b"of the dead")
    await dead.produce()
    alive.append(bench.out, 0, b"k", b"behind")
    await commit(alive, {bench.input: 2}, seat)

    plans = await restore_plans(bench.cluster, {changelog: None})
    consumer = AIOKafkaConsumer(bootstrap_servers=bench.bootstrap, isolation_level="read_committed")
    await consumer.start()
    bench._stack.push_async_callback(consumer.stop)
    assigned = TopicPartition(*changelog)
    consumer.assign([assigned])
    consumer.seek(assigned, plans[changelog].start)
    reader, progress = ChangelogReader(consumer), list[RestoreProgress]()
    await restore(bench.cluster, reader, plans, on_progress=progress.append)
    assert reader.applied == [b"before", b"behind"]
    assert any(step.blocked for step in progress)
    assert progress[-1].remaining == 0


async def test_a_store_beyond_its_changelog_is_wiped(bench: Bench) -> None:
    plans = await restore_plans(bench.cluster, {Partition(bench.out, 0): 12, Partition(bench.out, 1): 0})
    assert "12" in (plans[Partition(bench.out, 0)].wipe or "")
    assert plans[Partition(bench.out, 1)] == (0, 0, None)

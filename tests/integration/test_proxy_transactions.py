"""Late and repeated requests on a real broker: nothing of an older transaction reaches into a newer one.

D9, D10 and D11: an `EndTxn`, a `Produce`, a `TxnOffsetCommit` of T1 that arrives while T2 is half produced, because
it was held up on an old connection or because the network repeats it. Stock aiokafka is torn by the same proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import sys
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError
from confluent_kafka.admin import AdminClient, NewTopic

from streamapp.client.cluster import KafkaCluster, connect
from streamapp.client.wire import ProduceResponse_v12, produce_answer
from streamapp.eos.commit import commit
from streamapp.eos.producer import Producer
from streamapp.eos.protocol import Code, Membership
from streamapp.eos.recovery import stable_offsets
from streamapp.types import Partition

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from proxy import Action, Api, Frame, Proxy, Rule

pytestmark = pytest.mark.kafka

BOUND_S = 60.0
#: Long enough for a broker under load, short enough to be waited out a few times.
REQUEST_TIMEOUT_S = 0.6
#: A record batch closes at this size, so that two large records of a partition need two requests.
BATCH_BYTES = 4000
LARGE = b"." * 3000
#: What a broker says to a request of an older epoch.
STALE = {Code.INVALID_PRODUCER_EPOCH, Code.PRODUCER_FENCED}


class Bench:
    """One test's proxy, topic and group; a member of the group that is really seated, past the proxy."""

    def __init__(self, bootstrap: str, prefix: str, proxy: Proxy, cluster: KafkaCluster, seat: Membership) -> None:
        self.bootstrap = bootstrap
        self.prefix = prefix
        self.out = f"{prefix}-out"
        self.input = Partition(f"{prefix}-in", 0)
        self.proxy = proxy
        self.cluster = cluster
        self.seat = seat

    async def producer(self, batch_bytes: int = BATCH_BYTES) -> Producer:
        producer = Producer(self.cluster, f"{self.prefix}-1", transaction_timeout_s=20, batch_bytes=batch_bytes)
        await asyncio.wait_for(producer.start(), BOUND_S)
        await producer.ensure(self.out)
        return producer

    async def committed_offset(self) -> int | None:
        return (await stable_offsets(self.cluster, self.seat.group, [self.input]))[self.input]

    async def committed(self) -> list[bytes]:
        """The names of the records that a read_committed reader sees (see `append`)."""
        return await asyncio.to_thread(read_committed, self.bootstrap, self.out)


def append(producer: Producer, topic: str, *names: bytes) -> None:
    for name in names:
        producer.append(topic, 0, b"k", name + LARGE)


def read_committed(bootstrap: str, topic: str) -> list[bytes]:
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "reader",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    try:
        consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
        found = []
        while (message := consumer.poll(BOUND_S)) is not None:
            if message.error() is not None:
                assert message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF, message.error()
                return found
            found.append((message.value() or b"").rstrip(b"."))
        raise AssertionError("the reader got nothing, not even an end")
    finally:
        consumer.close()


@pytest.fixture
async def bench(kafka: Any, topic_prefix: str) -> AsyncIterator[Bench]:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for future in admin.create_topics([NewTopic(f"{topic_prefix}-{name}", 1, 1) for name in ("in", "out")]).values():
        await asyncio.to_thread(future.result, BOUND_S)
    group = f"{topic_prefix}-group"
    consumer = AIOKafkaConsumer(
        f"{topic_prefix}-in", bootstrap_servers=kafka.bootstrap, group_id=group, enable_auto_commit=False,
        session_timeout_ms=30_000,
    )  # fmt: skip
    await consumer.start()
    with Proxy(kafka.bootstrap) as proxy:
        cluster = await connect(proxy.bootstrap, request_timeout_s=REQUEST_TIMEOUT_S)
        try:
            while not consumer.assignment():  # noqa: ASYNC110 - pytest's time-out bounds it
                await asyncio.sleep(0.01)
            coordinator = consumer._coordinator
            seat = Membership(group, coordinator.generation, coordinator.member_id)
            yield Bench(kafka.bootstrap, topic_prefix, proxy, cluster, seat)
        finally:
            await cluster.close()
            await consumer.stop()


def error_of(frame: Frame, answer: bytes) -> int:
    """The error code in the broker's answer, in the versions our engine speaks."""
    body = answer[5:]  # correlation id and the empty tagged fields of a flexible header
    match frame.api, frame.version:
        case Api.END_TXN, 5:
            return struct.unpack_from(">h", body, 4)[0]  # behind the throttle time
        case Api.PRODUCE, 12:
            return next(iter(produce_answer(ProduceResponse_v12.decode(BytesIO(body))).values())).error
        case Api.TXN_OFFSET_COMMIT, 5:
            return struct.unpack_from(">h", body, len(body) - 5)[0]  # one partition, and three empty tagged fields
    raise AssertionError(f"version {frame.version} of {Api(frame.api).name} is not the engine's")


class Late:
    """A request of T1 that reaches the broker again or at last when the test says so."""

    def __init__(self, proxy: Proxy, api: Api, way: str) -> None:
        self._proxy = proxy
        self._way = way
        self._rule: Rule = proxy.on(api, Action.HOLD if way == "held" else Action.PASS)

    async def arrives(self) -> int:
        """The error the broker answers with."""
        frame = await asyncio.to_thread(self._rule.wait)
        if self._way == "held":
            assert not self._rule.answers, "it was to be held, and has reached the broker"
            answer = await asyncio.to_thread(self._rule.release)
        else:
            answer = await asyncio.to_thread(self._proxy.replay, frame)
        return error_of(frame, answer)


@contextlib.asynccontextmanager
async def half_produced(bench: Bench) -> AsyncIterator[None]:
    """While the first half of the transaction that is being produced is in the log and the second is not sent."""
    first = bench.proxy.on(Api.PRODUCE, Action.PASS)
    second = bench.proxy.on(Api.PRODUCE, Action.HOLD, nth=2)
    await asyncio.to_thread(first.wait_answer)
    await asyncio.to_thread(second.wait)
    yield
    await asyncio.to_thread(second.release)


WAYS = pytest.mark.parametrize("way", ["held", "repeated"])


@WAYS
@pytest.mark.parametrize("first", ["committed", "aborted"])
@pytest.mark.parametrize("second", ["committed", "aborted"])
async def test_d9_a_late_end_of_a_transaction_does_not_tear_the_next(
    bench: Bench, way: str, first: str, second: str
) -> None:
    producer = await bench.producer()
    late = Late(bench.proxy, Api.END_TXN, way)
    append(producer, bench.out, b"T1")
    if first == "committed":
        await commit(producer, {bench.input: 1}, bench.seat)
    else:
        await producer.produce()
        await producer.abort()
    append(producer, bench.out, b"T2-debit", b"T2-credit")
    producing = asyncio.create_task(producer.produce())
    async with half_produced(bench):
        assert await late.arrives() in STALE
    await producing
    await producer.bind({bench.input: 2}, bench.seat)
    if second == "committed":
        await producer.end()
    else:
        await producer.abort()
    expected = [b"T1"] * (first == "committed") + [b"T2-debit", b"T2-credit"] * (second == "committed")
    assert await bench.committed() == expected
    offset = {("committed", "aborted"): 1, ("aborted", "aborted"): None}.get((first, second), 2)
    assert await bench.committed_offset() == offset
    # The producer goes on: nothing of what came late has used up its identity.
    append(producer, bench.out, b"T3")
    await commit(producer, {bench.input: 3}, bench.seat)
    assert await bench.committed() == [*expected, b"T3"]


@pytest.mark.parametrize("way", ["held", "repeated", "never arrived"])
async def test_d10_a_late_batch_of_an_aborted_transaction_is_not_part_of_the_next(bench: Bench, way: str) -> None:
    producer = await bench.producer()
    late = Late(bench.proxy, Api.PRODUCE, "repeated" if way == "repeated" else "held")
    append(producer, bench.out, b"T1")
    producing = asyncio.create_task(producer.produce())
    if way == "never arrived":
        await asyncio.to_thread(late._rule.wait)
        producing.cancel()
        await asyncio.wait([producing])
    else:
        await producing
    await producer.abort()
    append(producer, bench.out, b"T2-debit", b"T2-credit")
    producing = asyncio.create_task(producer.produce())
    async with half_produced(bench):
        assert await late.arrives() in STALE
    await producing
    await producer.bind({bench.input: 2}, bench.seat)
    await producer.end()
    assert await bench.committed() == [b"T2-debit", b"T2-credit"]
    assert await bench.committed_offset() == 2


@WAYS
@pytest.mark.parametrize("moment", ["before the offsets of the next", "behind them", "behind its end"])
async def test_d11_late_offsets_never_move_the_committed_ones_back(bench: Bench, way: str, moment: str) -> None:
    producer = await bench.producer()
    late = Late(bench.proxy, Api.TXN_OFFSET_COMMIT, way)
    append(producer, bench.out, b"T1")
    await commit(producer, {bench.input: 5}, bench.seat)
    append(producer, bench.out, b"T2")
    await producer.produce()
    if moment == "before the offsets of the next":
        assert await late.arrives() in STALE
    await producer.bind({bench.input: 9}, bench.seat)
    if moment == "behind them":
        assert await late.arrives() in STALE
    await producer.end()
    if moment == "behind its end":
        assert await late.arrives() in STALE
    assert await bench.committed_offset() == 9
    assert await bench.committed() == [b"T1", b"T2"]


async def test_the_proxy_has_teeth_stock_aiokafka_is_torn_by_a_late_end(bench: Bench) -> None:
    """The negative control (KAFKA-17754): on protocol v1 T1's EndTxn commits half of T2, which its owner aborts."""
    producer = AIOKafkaProducer(bootstrap_servers=bench.proxy.bootstrap, transactional_id=f"{bench.prefix}-stock")
    await producer.start()
    try:
        end = bench.proxy.on(Api.END_TXN, Action.PASS)
        for name in (b"T1", b"T2-debit"):
            await producer.begin_transaction()
            await producer.send_and_wait(bench.out, name, partition=0)
            if name == b"T1":
                await producer.commit_transaction()
        answer = await asyncio.to_thread(bench.proxy.replay, end.wait())
        assert struct.unpack_from(">h", answer, 8) == (0,), "correlation id, throttle time, no error"
        # The answer comes before the marker is written; what is sent until then would be committed with the rest.
        async with asyncio.timeout(BOUND_S):
            while await bench.committed() != [b"T1", b"T2-debit"]:  # noqa: ASYNC110 - the broker tells nobody
                await asyncio.sleep(0.05)
        # What the owner does now no longer matters: it sends the other half, aborts, and is told that it cannot.
        with pytest.raises(KafkaError):
            await producer.send_and_wait(bench.out, b"T2-credit", partition=0)
            await producer.abort_transaction()
    finally:
        with contextlib.suppress(KafkaError):
            await producer.stop()
    assert await bench.committed() == [b"T1", b"T2-debit"], "half of a transaction that its owner aborted"


# --- answers that do not come, at every call of a commit


@pytest.mark.parametrize("api", [Api.PRODUCE, Api.TXN_OFFSET_COMMIT, Api.END_TXN])
async def test_a_commit_whose_answers_are_lost_is_one_commit(bench: Bench, api: Api) -> None:
    producer = await bench.producer()
    sent: list[bytes] = []
    for number, action in enumerate(set(Action) - {Action.PASS, Action.HOLD}, 1):
        rule = bench.proxy.on(api, action, seconds=0.1)
        names = [b"%d-debit" % number, b"%d-credit" % number]
        append(producer, bench.out, *names)
        written = await asyncio.wait_for(commit(producer, {bench.input: number}, bench.seat), BOUND_S)
        sent += names
        assert rule.hits == 1, action
        assert next(iter(written.values())).next_offset - next(iter(written.values())).base_offset == 2, action
        assert await bench.committed() == sent, action
        assert await bench.committed_offset() == number, action

"""The rows below the app: aiokafka 0.14 as stock Faust uses it, and our producer and offsets, call by call."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import GroupAuthorizationFailedError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from comparison.rows import Row, Seen
from comparison.side import Side
from streamapp.client.cluster import connect
from streamapp.eos.commit import commit
from streamapp.eos.producer import Producer
from streamapp.eos.protocol import Membership
from streamapp.eos.recovery import stable_offsets
from streamapp.errors import Fenced, RecordError, TransactionAborted
from streamapp.types import Partition

_BOUND_S = 40.0


class Clients:
    """Members of one group and one transactional producer on a side's topics."""

    def __init__(self, side: Side, stack: AsyncExitStack) -> None:
        self.side, self._stack = side, stack
        self.out = f"{side.prefix}-out"
        self.input = Partition(f"{side.prefix}-in", 0)
        self.place = TopicPartition(*self.input)
        self.group = f"{side.prefix}-app"

    async def member(self) -> Any:
        """A consumer that owns something."""
        consumer = AIOKafkaConsumer(
            self.input.topic,
            bootstrap_servers=self.side.bootstrap,
            group_id=self.group,
            enable_auto_commit=False,
            heartbeat_interval_ms=200,
        )
        await consumer.start()
        self._stack.push_async_callback(consumer.stop)
        while not consumer.assignment():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        return consumer

    async def stock(self) -> Any:
        producer = AIOKafkaProducer(bootstrap_servers=self.side.bootstrap, transactional_id=f"{self.side.prefix}-id")
        await producer.start()
        self._stack.push_async_callback(producer.stop)
        return producer

    async def ours(self) -> Producer:
        cluster = self.cluster = await connect(self.side.bootstrap)
        self._stack.push_async_callback(cluster.close)
        producer = Producer(cluster, f"{self.side.prefix}-id", transaction_timeout_s=10)
        await producer.start()
        await producer.ensure(self.out)
        return producer

    async def committed(self) -> list[str]:
        await asyncio.sleep(0.5)  # the markers
        return await asyncio.to_thread(self.side.committed)


def seat_of(consumer: Any) -> Membership:
    """Where it sits, as its coordinator has it now."""
    coordinator = consumer._coordinator
    return Membership(coordinator.group_id, coordinator.generation, coordinator.member_id)


async def _stale_member(it: Clients) -> Seen:
    """11: a member of an older generation commits offsets."""
    member = await it.member()
    seat = seat_of(member)
    await it.member()
    while seat_of(member).generation <= seat.generation:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    if it.side.engine == "ours":
        producer = await it.ours()
        producer.append(it.out, 0, b"k", b"zombie")
        try:
            await commit(producer, {it.input: 7}, seat)
        except Fenced as exc:
            code = re.search(r"-?\d+ \(\w+\)", str(exc))
            return Seen(await it.committed() == [], f"refused with error {code[0] if code else exc}")
        return Seen(False, "accepted")
    producer = await it.stock()
    await producer.begin_transaction()
    await producer.send_and_wait(it.out, b"zombie", partition=0)
    await producer.send_offsets_to_transaction({it.place: OffsetAndMetadata(7, "")}, it.group)
    await producer.commit_transaction()
    return Seen(await it.committed() == [], f"accepted; committed: {await it.committed()}")


async def _undecided_offsets(it: Clients) -> Seen:
    """12: a new owner asks for offsets while its predecessor's transaction is open, which then commits."""
    first = await it.member()
    if it.side.engine == "ours":
        producer = await it.ours()
        producer.append(it.out, 0, b"k", b"first")
        await producer.produce()
        await producer.bind({it.input: 5}, seat_of(first))
        asking = asyncio.create_task(stable_offsets(it.cluster, it.group, [it.input]))
        await asyncio.sleep(1)
        early = asking.done()
        await producer.end()
        offset = (await asking)[it.input]
        return Seen(not early and offset == 5, f"waits for the outcome, then reads on from {offset}")
    producer = await it.stock()
    await producer.begin_transaction()
    await producer.send_and_wait(it.out, b"first", partition=0)
    await producer.send_offsets_to_transaction({it.place: OffsetAndMetadata(5, "")}, it.group)
    await first.stop()
    heir = await it.member()
    offset = await heir.committed(it.place)
    await producer.commit_transaction()
    text = f"reads on from {offset or 0} though 5 is committed a moment later"
    return Seen(offset == 5, text)


async def _failed_batch(it: Clients) -> Seen:
    """14: one of two records is larger than its topic takes, and only the broker knows."""
    if it.side.engine == "ours":
        producer, seat = await it.ours(), seat_of(await it.member())
        _narrow(it)
        producer.append(it.out, 0, b"k", b"small")
        try:
            producer.append(it.out, 1, b"k", b"X" * 5000)
            await commit(producer, {it.input: 1}, seat)
        except (TransactionAborted, RecordError) as exc:
            found = await it.committed()
            return Seen(found == [], f"nothing committed, and said: {type(exc).__name__}")
        return Seen(False, f"committed: {len(await it.committed())} of 2 records")
    producer = await it.stock()
    _narrow(it)
    await producer.begin_transaction()
    await producer.send(it.out, b"small", partition=0)
    await producer.send(it.out, b"X" * 5000, partition=1)
    await asyncio.sleep(0.5)
    await producer.commit_transaction()
    found = await it.committed()
    return Seen(len(found) != 1, f"commit_transaction() returned; {len(found)} of 2 records are there")


def _narrow(it: Clients) -> None:
    entry = ConfigEntry("max.message.bytes", "2000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource("topic", it.out, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": it.side.bootstrap})  # a name: it must outlive its futures
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(_BOUND_S)


async def _abort_after_an_error(it: Clients) -> Seen:
    """15: an abort after an error, then a commit. The error state is what aiokafka makes of a refused group."""
    if it.side.engine == "ours":
        producer, seat = await it.ours(), seat_of(await it.member())
        producer.append(it.out, 0, b"k", b"aborted")
        await producer.produce()
        await producer.abort()
        producer.append(it.out, 0, b"k", b"next")
        await commit(producer, {it.input: 1}, seat)
    else:
        producer = await it.stock()
        await producer.begin_transaction()
        await producer.send_and_wait(it.out, b"aborted", partition=0)
        producer._txn_manager.error_transaction(GroupAuthorizationFailedError(it.group))
        await producer.abort_transaction()
        await producer.begin_transaction()
        await producer.send_and_wait(it.out, b"next", partition=0)
        await producer.commit_transaction()
    found = await it.committed()
    return Seen(found == ["next"], f"visible: {', '.join(found)}")


def _row(number: str, what: str, look: Any) -> Row:
    def run(side: Side) -> Seen:
        async def within() -> Seen:
            async with asyncio.timeout(_BOUND_S), AsyncExitStack() as stack:
                seen: Seen = await look(Clients(side, stack))
            return seen

        return asyncio.run(within())

    return Row(number, what, "copy", run)


CLIENT_ROWS = (
    _row("11", "offsets of a member of an older generation", _stale_member),
    _row("12", "offsets asked for while a transaction on them is open", _undecided_offsets),
    _row("14", "a batch that the broker refuses", _failed_batch),
    _row("15", "an abort after an error", _abort_after_an_error),
)

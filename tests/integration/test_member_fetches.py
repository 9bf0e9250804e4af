"""What a member fetches of a real Kafka while some of its partitions are full: nothing is lost, or fetched twice."""

from __future__ import annotations

import asyncio
import math
import sys
from collections import Counter
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.protocol.fetch import FetchRequest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from yarl import URL

from streamapp.client.cluster import KafkaCluster
from streamapp.client.fetch_delay import pause_s
from streamapp.client.member import KafkaMember
from streamapp.driver.assignor import Assignor
from streamapp.engine.record import Record
from streamapp.settings import Settings
from streamapp.types import Partition

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
import odd_names

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]

#: Of each partition: several fetches' worth, and many times what is handed over at once.
COUNT, TOGETHER = 3000, 100
VALUE = bytes(1000)
#: Longer than anything here takes.
LONG_S = 60.0


class Reader:
    """A member that begins at the start of what it is given, and the fetches it sends."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.topic = topic
        self.partitions = [Partition(topic, number) for number in range(2)]
        self.bootstrap = bootstrap
        self.found: dict[Partition, list[int]] = {at: [] for at in self.partitions}
        self.headers: dict[Partition, list[Any]] = {at: [] for at in self.partitions}
        #: How often each (partition, offset) was asked for, and for how many bytes at last.
        self.asked: Counter[tuple[int, int]] = Counter()
        self.asked_bytes = 0
        self.assigned = asyncio.Event()
        options = {"bootstrap_servers": bootstrap}
        self.member = KafkaMember(Settings(id=topic), Assignor(_app()), options, lambda: math.inf, KafkaCluster(None))

    async def start(self) -> None:
        client = self.member._consumer._client
        send = client.send

        async def noted(node: int, request: Any, **options: Any) -> Any:
            if isinstance(request, FetchRequest):
                for _, partitions in request.topics:
                    self.asked.update((number, offset) for number, offset, _ in partitions)
                    self.asked_bytes = partitions[0][2]
            return await send(node, request, **options)

        client.send = noted
        await self.member.subscribe([self.topic], self)
        async with asyncio.timeout(LONG_S):
            await self.assigned.wait()

    async def on_partitions_revoked(self, revoked: Collection[Any]) -> None: ...

    async def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        for at in self.partitions:
            self.member.seek(at, 0)
        self.assigned.set()

    async def fetch(self, timeout_s: float, full: Collection[Partition] = ()) -> dict[Any, list[Record]]:
        fetched = dict(await self.member.fetch(timeout_s, TOGETHER, full))
        for at, records in fetched.items():
            self.found[at] += [record.offset for record in records]
            self.headers[at] += [record.headers for record in records if record.headers]
        return fetched


def _app() -> Any:
    sensors = SimpleNamespace(
        on_assignment_start=lambda *_: None, on_assignment_completed=lambda *_: None, on_assignment_error=print
    )
    tables = SimpleNamespace(data={}, changelog_topics=set())
    conf = SimpleNamespace(canonical_url=URL("http://streamapp.invalid/"))
    return SimpleNamespace(tables=tables, tracer=None, sensors=sensors, conf=conf, views_address=None)


def _send(bootstrap: str, topic: str, count: int) -> None:
    """So many records to each partition."""
    producer = Producer({"bootstrap.servers": bootstrap})
    for number in range(2 * count):
        producer.produce(topic, VALUE, partition=number % 2)
        producer.poll(0)
    assert producer.flush(60) == 0


@pytest.fixture
async def reader(kafka: Any, topic_prefix: str) -> AsyncIterator[Reader]:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for future in admin.create_topics([NewTopic(topic_prefix, 2, 1)]).values():
        future.result(60)
    _send(kafka.bootstrap, topic_prefix, COUNT)
    reader = Reader(kafka.bootstrap, topic_prefix)
    try:
        await reader.start()
        yield reader
    finally:
        await reader.member.close()


async def test_what_was_fetched_of_a_full_partition_is_handed_over_later_and_not_fetched_again(reader: Reader) -> None:
    """It was dropped and fetched again for every few records: a backlog then cost several times its bytes."""
    first, second = reader.partitions
    async with asyncio.timeout(LONG_S):
        while any(len(offsets) < COUNT for offsets in reader.found.values()):
            # As a worker that is slower than its fetches: of whatever came last nothing is taken for a while.
            for full in ([first], [second], [first, second], []):
                fetched = await reader.fetch(0.05, full)
                assert not set(fetched) & set(full)
    for at in reader.partitions:
        assert reader.found[at] == list(range(COUNT))
    again = {asked: times for asked, times in reader.asked.items() if times > 1 and asked[1] < COUNT}
    assert not again, f"(partition, offset) -> how often it was asked for: {again}"
    assert len([offset for _, offset in reader.asked if offset < COUNT]) >= 4, "more than one fetch a partition"


async def test_a_wait_ends_when_a_full_partition_has_room(reader: Reader) -> None:
    first, second = reader.partitions
    # Of the second nothing is taken, so that it has something whichever of the two was fetched first.
    while len(reader.found[first]) < COUNT // 2:
        assert await reader.fetch(LONG_S, [second]), reader.found
    full = {first, second}
    async with asyncio.timeout(LONG_S / 2):
        waiting = asyncio.create_task(reader.fetch(LONG_S, full))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        full.remove(second)
        reader.member.wake()
        assert set(await waiting) == {second}
        # And with nobody left to wait for, it comes to its own end.
        assert await reader.fetch(0.05, reader.partitions) == {}


async def test_many_partitions_share_what_is_fetched_at_once(reader: Reader) -> None:
    assert reader.asked_bytes in (0, 2 << 20)
    reader.member.share_fetches(64)
    async with asyncio.timeout(LONG_S):
        while any(len(offsets) < COUNT for offsets in reader.found.values()):
            await reader.fetch(0.2)
    assert reader.asked_bytes == 1 << 19


async def test_a_header_whose_name_is_no_text_stops_nobody(reader: Reader) -> None:
    """aiokafka refuses the whole batch; it was the end of every worker that came to it."""
    first, second = reader.partitions
    headers = ((odd_names.NAME, b"\xff"), ("fine", None))
    batch = [(None, b"one", 0, ()), (b"key", b"two", 0, headers), (None, None, 0, ())]
    ends = []
    for _ in range(2):
        assert await odd_names.append(reader.bootstrap, first, batch) >= COUNT
        ends.append(await odd_names.append(reader.bootstrap, first, batch) + len(batch))
        await asyncio.to_thread(_send, reader.bootstrap, reader.topic, 5)
    async with asyncio.timeout(LONG_S):
        while len(reader.found[first]) < ends[-1] + 5 or len(reader.found[second]) < COUNT + 10:
            await reader.fetch(0.2, [second] if len(reader.found[first]) % 2 else ())
    assert reader.found[first] == list(range(ends[-1] + 5))
    assert reader.found[second] == list(range(COUNT + 10))
    assert reader.headers[first] == [((odd_names.READ, b"\xff"), ("fine", None))] * 4
    assert reader.member.position(first) == ends[-1] + 5
    # A rewind to the middle of such a batch reads on from there.
    reader.found[first].clear()
    reader.member.seek(first, ends[0] - 2)
    async with asyncio.timeout(LONG_S):
        while len(reader.found[first]) < 5 + 2 * len(batch) + 5 + 2:
            await reader.fetch(0.2)
    assert reader.found[first] == list(range(ends[0] - 2, ends[-1] + 5))


async def test_records_that_come_one_by_one_are_fetched_some_at_a_time(reader: Reader) -> None:
    """Each append would answer a fetch; the pause behind an answer lets the next one bring more."""
    async with asyncio.timeout(LONG_S):
        while any(len(offsets) < COUNT for offsets in reader.found.values()):
            await reader.fetch(0.1)
        reader.asked.clear()
        few, began = 400, asyncio.get_running_loop().time()
        producer = Producer({"bootstrap.servers": reader.bootstrap, "linger.ms": 0})
        for number in range(few):
            producer.produce(reader.topic, VALUE, partition=number % 2)
            producer.poll(0)
            await reader.fetch(0.002)
        assert producer.flush(60) == 0
        while any(len(offsets) < COUNT + few // 2 for offsets in reader.found.values()):
            await reader.fetch(0.1)
        passed_s = asyncio.get_running_loop().time() - began
    for number in range(2):
        # Each partition is named at most once a fetch, and a fetch that brought something takes its pause.
        asked = sum(times for (partition, _), times in reader.asked.items() if partition == number)
        assert asked <= passed_s / pause_s(Settings(id="any").commit_interval, 1, math.inf) + 3

"""The inbox on real Kafka: repeats, conflicts, failures, batches, restores and retention, in this process."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import confluent_kafka
import msgspec
import pytest
from aborted import abort_transaction
from confluent_kafka.admin import AdminClient, NewTopic

from streamapp import App, inbox
from streamapp.delivery.inbox import InboxStatus, Mark
from streamapp.errors import ConfigurationError
from streamapp.settings import load

pytestmark = pytest.mark.kafka

BOUND_S = 60.0
PARTITIONS = 2


class Order(msgspec.Struct, frozen=True):
    event_id: str
    amount: int


class Booked(msgspec.Struct, frozen=True):
    event_id: str
    total: int


class Shop:
    """One test's topics and apps: `orders` in, `booked` out."""

    def __init__(self, bootstrap: str, prefix: str, path: Path) -> None:
        self.bootstrap = bootstrap
        self.prefix = prefix
        self.orders, self.booked = f"{prefix}-orders", f"{prefix}-booked"
        self.path = path
        self.producer = confluent_kafka.Producer(
            {"bootstrap.servers": bootstrap, "partitioner": "murmur2", "linger.ms": 0}
        )

    def create(self, *names: str, partitions: int = PARTITIONS) -> None:
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        config = {"message.timestamp.type": "LogAppendTime"}
        for future in admin.create_topics([NewTopic(n, partitions, 1, config=config) for n in names]).values():
            future.result(BOUND_S)

    def app(self, **settings: Any) -> App:
        given = {"partitions": PARTITIONS, "datadir": self.path, "instance": "w", **settings}
        return App(settings=load(broker=self.bootstrap, id=self.prefix, **given), autodiscover=False)

    def send(self, *orders: tuple[str, int], key: str = "alice") -> None:
        for event_id, amount in orders:
            value = json.dumps({"event_id": event_id, "amount": amount})
            self.producer.produce(self.orders, key=key, value=value)
        assert self.producer.flush(BOUND_S) == 0

    def read(self, topic: str) -> list[Any]:
        """Every committed record of a topic."""
        consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": f"{self.prefix}-reader",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
            }
        )
        try:
            parts = consumer.list_topics(topic, BOUND_S).topics[topic].partitions
            consumer.assign([confluent_kafka.TopicPartition(topic, number, 0) for number in parts])
            found, ends = [], 0
            while ends < len(parts):
                record = consumer.poll(BOUND_S)
                assert record is not None, f"{topic} did not end"
                if record.error() is None:
                    found.append(record)
                else:
                    assert record.error().code() == confluent_kafka.KafkaError._PARTITION_EOF, record.error()
                    ends += 1
            return found
        finally:
            consumer.close()

    def totals(self) -> list[tuple[str, int]]:
        values = [json.loads(record.value()) for record in self.read(self.booked)]
        return [(value["event_id"], value["total"]) for value in values]

    def marks(self) -> dict[tuple[str, ...], Mark]:
        """The marks in the changelog, by what follows the agent's name in their keys."""
        records = self.read(f"{self.prefix}-inbox-changelog")
        return {tuple(json.loads(record.key())[1:]): Mark.unpack(record.value()) for record in records}


@pytest.fixture
def shop(kafka: Any, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.chdir(tmp_path)
    shop = Shop(kafka.bootstrap, topic_prefix, tmp_path / "state")
    shop.create(shop.orders, shop.booked, f"{shop.orders}-dlt")
    return shop


@asynccontextmanager
async def running(app: App) -> AsyncIterator[Any]:
    """The app as a worker; its engine. What ended it, if it was an error, is raised."""
    app.finalize()
    async with asyncio.timeout(BOUND_S):
        await app.start()
    try:
        engine = app.engine
        assert engine is not None
        yield engine
    finally:
        async with asyncio.timeout(BOUND_S):
            await app.stop()
    if app.failure is not None:
        raise app.failure


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(BOUND_S):
        while not condition():  # noqa: ASYNC110 - a condition has no event to wait for
            await asyncio.sleep(0.02)


async def consumed(engine: Any, shop: Shop, count: int) -> None:
    """Until the offsets of `count` records of `orders` are committed."""

    def enough() -> bool:
        offsets = [offset for partition, offset in engine.committed.items() if partition.topic == shop.orders]
        return sum(offsets) >= count

    await until(enough)


def booking(shop: Shop, app: App, fail: Callable[[Order], bool] = lambda order: False, **rule: Any) -> Any:
    """An agent that adds up the orders of each key, behind an inbox."""
    totals = app.Table("totals", default=int, partitions=PARTITIONS)
    booked = app.topic(shop.booked, value_type=Booked)

    @app.agent(app.topic(shop.orders, value_type=Order), name="book")
    @inbox(aggregate_type="ORDER", event_type="ORDER_BOOK", **rule)
    async def book(stream: Any) -> None:
        async for key, order in stream.items():
            totals[key] += order.amount
            await booked.send(key=key, value=Booked(order.event_id, totals[key]))
            if fail(order):
                raise ArithmeticError(f"{order.event_id} cannot be booked")

    return book


async def test_a_repeat_has_no_effect_and_a_conflict_is_a_dead_letter(shop: Shop) -> None:
    app = shop.app()
    booking(shop, app)
    shop.send(("1", 5), ("1", 5), ("2", 7), ("1", 6), ("2", 7))
    shop.send(("1", 5), key="carol")
    async with running(app) as engine:
        await consumed(engine, shop, 6)
        assert engine.counts["duplicates"] == 2
    assert sorted(shop.totals()) == [("1", 5), ("1", 5), ("2", 12)]
    (letter,) = shop.read(f"{shop.orders}-dlt")
    headers = dict(letter.headers())
    assert json.loads(letter.value()) == {"event_id": "1", "amount": 6}
    assert headers["dlt-exception-fqcn"] == b"EventIdConflict"
    assert headers["dlt-attempts"] == b"1"
    assert {key: (mark.status, mark.attempts) for key, mark in shop.marks().items()} == {
        ("alice", "1"): (InboxStatus.PROCESSED, 1),
        ("alice", "2"): (InboxStatus.PROCESSED, 1),
        ("carol", "1"): (InboxStatus.PROCESSED, 1),
    }


async def test_what_failed_runs_again_when_it_comes_again(shop: Shop) -> None:
    app, ill = shop.app(), [True]
    booking(shop, app, lambda order: ill[0] and order.event_id == "2")
    shop.send(("1", 5), ("2", 7), ("2", 7), ("3", 1))
    async with running(app) as engine:
        await consumed(engine, shop, 4)
        assert {key[1]: (mark.status, mark.attempts) for key, mark in shop.marks().items()} == {
            "1": (InboxStatus.PROCESSED, 1),
            "2": (InboxStatus.FAILED, 2),
            "3": (InboxStatus.PROCESSED, 1),
        }
        ill[0] = False
        shop.send(("2", 7), ("2", 7))
        await consumed(engine, shop, 6)
    assert shop.totals() == [("1", 5), ("3", 6), ("2", 13)]
    assert shop.marks()["alice", "2"][:2] == (InboxStatus.PROCESSED, 3)
    attempts = [dict(letter.headers())["dlt-attempts"] for letter in shop.read(f"{shop.orders}-dlt")]
    assert attempts == [b"1", b"2"]


@pytest.mark.parametrize("state", ["kept", "lost"])
async def test_marks_survive_the_worker(shop: Shop, state: str) -> None:
    for turn in (1, 2):
        app = shop.app()
        booking(shop, app)
        shop.send(("1", 5), ("2", 7))
        async with running(app) as engine:
            await consumed(engine, shop, turn * 2)
            assert engine.counts.get("duplicates", 0) == (turn - 1) * 2
        if state == "lost":
            shutil.rmtree(shop.path)
    assert shop.totals() == [("1", 5), ("2", 12)]


async def test_an_aborted_transaction_takes_its_marks_with_it(shop: Shop) -> None:
    app = shop.app(commit_interval=1.0)
    booking(shop, app)
    shop.send(("1", 5), ("2", 7))
    async with running(app) as engine:
        await until(lambda: engine.committer.schedule.finished == 2)
        await abort_transaction(engine)
        await consumed(engine, shop, 2)
        assert engine.counts["aborts"] == 1
        assert engine.counts.get("duplicates", 0) == 0
    assert shop.totals() == [("1", 5), ("2", 12)]


async def test_repeats_are_taken_out_of_batches(shop: Shop) -> None:
    app, seen = shop.app(), []

    @app.agent(app.topic(shop.orders, value_type=Order))
    async def book(stream: Any) -> None:
        async for batch in inbox(stream, aggregate_type="ORDER", event_type="ORDER_BOOK").take(10, within=1):
            seen.extend(order.event_id for order in batch)

    shop.send(("1", 5), ("2", 7), ("1", 5), ("3", 1), ("2", 7))
    async with running(app) as engine:
        await consumed(engine, shop, 5)
        shop.send(("1", 5), ("3", 1), ("2", 8), ("4", 1))  # repeats, a conflict, and a fresh one: one at a time
        await consumed(engine, shop, 9)
        assert engine.counts["duplicates"] >= 4
    assert sorted(seen) == ["1", "2", "3", "4"]
    (letter,) = shop.read(f"{shop.orders}-dlt")
    assert json.loads(letter.value()) == {"event_id": "2", "amount": 8}


async def test_two_agents_may_consume_the_same_event(shop: Shop) -> None:
    app = shop.app()
    seen: dict[str, list[Any]] = {"a": [], "b": []}
    orders = app.topic(shop.orders, value_type=Order)
    for name in ("a", "b"):

        @app.agent(orders, name=name)
        @inbox(aggregate_type="ORDER", event_type="ORDER_BOOK")
        async def book(stream: Any, mine: list[Any] = seen[name]) -> None:
            async for key, order in stream.items():
                mine.append((key, order.event_id))

    shop.send(("1", 5), ("1", 5), ("2", 5))
    async with running(app) as engine:
        await consumed(engine, shop, 3)
    assert seen == {name: [("alice", "1"), ("alice", "2")] for name in "ab"}


async def test_what_another_agent_fails_takes_the_mark_with_it(shop: Shop) -> None:
    app, ill, seen, started = shop.app(), [True], [], asyncio.Event()
    orders = app.topic(shop.orders, value_type=Order)

    @app.agent(orders, name="careful")
    @inbox(aggregate_type="ORDER", event_type="ORDER_BOOK")
    async def careful(stream: Any) -> None:
        async for key, order in stream.items():
            seen.append((key, order.event_id))
            started.set()

    @app.agent(orders, name="clumsy")
    async def clumsy(stream: Any) -> None:
        async for _ in stream:
            await started.wait()  # the other one has run
            if ill[0]:
                raise ArithmeticError("not today")

    async with running(app) as engine:
        shop.send(("1", 5))
        await consumed(engine, shop, 1)
        ill[0] = False
        shop.send(("1", 5), ("1", 5))
        await consumed(engine, shop, 3)
    assert seen == [("alice", "1")] * 2
    assert engine.counts["duplicates"] == 1
    assert shop.marks()["alice", "1"][:2] == (InboxStatus.PROCESSED, 1)


async def test_after_the_retention_an_id_is_new_and_its_segment_is_dropped(shop: Shop) -> None:
    app = shop.app(inbox_retention=1.0)
    booking(shop, app)
    async with running(app) as engine:
        shop.send(("old", 5))
        await consumed(engine, shop, 1)
        (store,) = [t.stores["inbox"] for t in engine.tasks if any(it.has_finished for it in t.inputs.values())]
        first, count = store._storage.segments[-1], 1
        while store._storage.segments[-1] == first:
            await asyncio.sleep(0.3)
            shop.send((f"{count}", 1))
            count += 1
            await consumed(engine, shop, count)
            assert count < 40
        shop.send(("old", 6))
        await consumed(engine, shop, count + 1)
    assert shop.totals()[-1] == ("old", 5 + count - 1 + 6)
    assert shop.read(f"{shop.orders}-dlt") == []


async def test_topics_of_different_counts_cannot_share_an_inbox(shop: Shop) -> None:
    app = shop.app()
    other = f"{shop.prefix}-other"
    shop.create(other, partitions=PARTITIONS + 1)
    booking(shop, app)

    @app.agent(app.topic(other, value_type=Order))
    @inbox(aggregate_type="ORDER", event_type="ORDER_BOOK")
    async def other_book(stream: Any) -> None:
        async for _ in stream:
            pass

    with pytest.raises(ConfigurationError, match="different numbers of partitions"):
        async with running(app):
            await until(lambda: app.failure is not None)

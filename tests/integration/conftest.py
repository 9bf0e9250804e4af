"""A worker inside the test's own event loop, and what tests of agents read and write on Kafka beside it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streamapp import settings as settings_
from streamapp.app import App

#: Bound of every wait for something that should come at once; generous, because cores are shared.
WAIT_S = 60.0


class Row(NamedTuple):
    """A committed record."""

    partition: int
    offset: int
    key: str | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    timestamp: int

    @property
    def json(self) -> Any:
        return None if self.value is None else json.loads(self.value)


class Bench:
    """The test's side of Kafka: topics, sends and what is committed. Blocking; `committed` is the judge."""

    def __init__(self, bootstrap: str, prefix: str, data: Path) -> None:
        self.bootstrap = bootstrap
        self.prefix = prefix
        self._data = data
        self._apps = 0

    def name(self, topic: str) -> str:
        return f"{self.prefix}-{topic}"

    def app(self, id: str | None = None, **options: Any) -> App:
        """An app of its own group and state; the same `id` again is another worker of it."""
        self._apps += 1
        values: dict[str, Any] = {
            "broker": self.bootstrap,
            "id": self.name(id or "app"),
            "datadir": self._data,
            "partitions": 2,
            "commit_interval": 0.05,
            "session_timeout": 6.0,
            "transaction_timeout": 6.0,
            "store": "memory",
        }
        for name in set(options) & set(settings_.Settings.model_fields):
            values[name] = options.pop(name)
        return App(settings=settings_.Settings(**values), autodiscover=False, **options)

    def create(self, *topics: str, partitions: int = 2, **config: str) -> None:
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        settings = {name.replace("__", "."): value for name, value in config.items()}
        settings.setdefault("message.timestamp.type", "LogAppendTime")  # as inboxes and windows ask for
        made = [NewTopic(self.name(topic), partitions, 1, config=settings) for topic in topics]
        for future in admin.create_topics(made).values():
            future.result(WAIT_S)

    def send(self, topic: str, values: Iterable[Any], *, key: Any = "k", partition: int = -1, **more: Any) -> None:
        """Values (text, bytes, None, or anything JSON has) under one key, or keys made from the value."""
        # Idempotent, or a batch that is sent again arrives behind the next one, or twice.
        options = {"bootstrap.servers": self.bootstrap, "partitioner": "murmur2_random", "linger.ms": 5}
        producer = Producer({**options, "enable.idempotence": True})
        for value in values:
            made = key(value) if callable(key) else key
            raw = value if isinstance(value, str | bytes | None) else json.dumps(value)
            producer.produce(self.name(topic), raw, made, partition, **more)
            producer.poll(0)
        assert producer.flush(WAIT_S) == 0

    def committed(self, topic: str, *, full_name: bool = False) -> list[Row]:
        """Every committed record of a topic up to its end as it is now."""
        name = topic if full_name else self.name(topic)
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": self.name("reader"),
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
            }
        )
        try:
            described = consumer.list_topics(name, timeout=WAIT_S).topics[name]
            numbers = list(described.partitions)
            if not numbers:
                return []
            consumer.assign([TopicPartition(name, number, OFFSET_BEGINNING) for number in numbers])
            return _read_to_the_ends(consumer, len(numbers))
        finally:
            consumer.close()

    async def wait_for(self, topic: str, count: int, *, seconds: float = WAIT_S, full_name: bool = False) -> list[Row]:
        """Committed records once there are `count`; more than that fails at once, fewer after `seconds`."""
        until = time.monotonic() + seconds
        while True:
            rows = await asyncio.to_thread(self.committed, topic, full_name=full_name)
            assert len(rows) <= count, f"{len(rows)} records in {topic}, {count} expected: {rows[:20]}"
            if len(rows) == count:
                return rows
            assert time.monotonic() < until, f"{len(rows)} of {count} records in {topic}: {rows[:20]}"
            await asyncio.sleep(0.05)


def _read_to_the_ends(consumer: Any, partitions: int) -> list[Row]:
    rows, ends, until = [], set(), time.monotonic() + WAIT_S
    while len(ends) < partitions:
        assert time.monotonic() < until, "the topic's end did not come"
        for message in consumer.consume(2000, 0.1):
            if message.error():
                ends.add(message.partition())
                continue
            key = message.key()
            rows.append(
                Row(
                    message.partition(),
                    message.offset(),
                    None if key is None else key.decode(),
                    message.value(),
                    message.headers() or [],
                    message.timestamp()[1],
                )
            )
    return sorted(rows, key=lambda row: (row.partition, row.offset))


@pytest.fixture
def bench(kafka: Any, topic_prefix: str, tmp_path: Path) -> Bench:
    return Bench(kafka.bootstrap, topic_prefix, tmp_path)


Running = Callable[..., AbstractAsyncContextManager[None]]


@pytest.fixture
def running() -> Running:
    """`async with running(app, ...)`: workers in this event loop, which own their partitions; they are drained."""
    return _running


@asynccontextmanager
async def _running(*apps: App, owned: bool = True) -> AsyncIterator[None]:
    for app in apps:
        app.finalize()
    try:
        async with asyncio.timeout(WAIT_S):
            for app in apps:
                await app.start()
            while owned and not all(app.engine is not None and app.engine.owners for app in apps):
                check(apps)
                await asyncio.sleep(0.02)
        yield
        check(apps)
    finally:
        for app in apps:
            async with asyncio.timeout(WAIT_S):
                await app.stop()


def check(apps: Sequence[App]) -> None:
    """No worker has ended by itself."""
    for app in apps:
        if app.failure is not None:
            raise app.failure


async def until(condition: Callable[[], Any], *, seconds: float = WAIT_S) -> None:
    """Wait until `condition()` holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - a condition has no event to wait for
            await asyncio.sleep(0.01)


@pytest.fixture(name="until")
def _until() -> Callable[..., Any]:
    return until

"""When a transaction is committed, seen at the broker: each one leaves one marker behind its records.

One partition in and one out, so records plus markers are the offsets of `out`.
"""

from __future__ import annotations

import time
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

pytestmark = pytest.mark.kafka


def copying(bench: Any, asks: Any = (), **settings: Any) -> Any:
    """An app that copies `in` to `out`, and asks for a commit at the values in `asks`."""
    app = bench.app(partitions=1, **settings)
    out = app.topic(bench.name("out"))

    @app.agent(app.topic(bench.name("in")), name="copy")
    async def copy(stream: Any) -> None:
        async for event in stream.events():
            await out.send(key="k", value=event.value)
            if event.value in asks:
                event.request_commit()

    return app


def transactions(bench: Any, records: int) -> int:
    """How many transactions wrote to `out`."""
    consumer = Consumer({"bootstrap.servers": bench.bootstrap, "group.id": bench.name("ends")})
    try:
        _, end = consumer.get_watermark_offsets(TopicPartition(bench.name("out"), 0), timeout=60)
        return int(end) - records
    finally:
        consumer.close()


@pytest.fixture(autouse=True)
def topics(bench: Any) -> None:
    bench.create("in", "out", partitions=1)


@pytest.mark.parametrize(("commit_events", "expected"), [(1, 12), (5, 3)])
async def test_record_and_count(bench: Any, running: Any, commit_events: int, expected: int) -> None:
    """COMMIT_EVENTS=1 is one event a transaction; n is n events; what is over waits for the interval."""
    bench.send("in", range(12))
    async with running(
        copying(bench, commit_events=commit_events, commit_interval=3.0, session_timeout=15.0, transaction_timeout=15.0)
    ):
        rows = await bench.wait_for("out", 12)
    assert [row.json for row in rows] == list(range(12))
    assert transactions(bench, 12) == expected


async def test_time(bench: Any, running: Any, until: Any) -> None:
    """COMMIT_INTERVAL: everything since the last commit, once the time has passed and not before."""
    app = copying(bench, commit_interval=1.9)
    async with running(app):
        began = time.monotonic()
        bench.send("in", range(12))
        await until(lambda: app.engine.dirty)
        assert bench.committed("out") == []
        await bench.wait_for("out", 12)
        assert time.monotonic() - began >= 1.7
    assert transactions(bench, 12) == 1


async def test_manual(bench: Any, running: Any) -> None:
    """`event.request_commit()`: at once, with everything up to this event; the rest waits for the interval."""
    async with running(copying(bench, asks={3}, commit_interval=1.9)):
        bench.send("in", range(6))
        rows = await bench.wait_for("out", 4)
        assert [row.json for row in rows] == [0, 1, 2, 3]
        await bench.wait_for("out", 6)
    assert transactions(bench, 6) == 2


async def test_batch(bench: Any, running: Any, until: Any) -> None:
    """`take(n)`: a batch is one unit, so it is never parted by a commit; COMMIT_EVENTS counts it as one."""
    app = bench.app(partitions=1, commit_events=1, commit_interval=1.0)
    out = app.topic(bench.name("out"))

    @app.agent(app.topic(bench.name("in")), name="copy")
    async def copy(stream: Any) -> None:
        async for batch in stream.take(5, within=1):
            for value in batch:
                await out.send(key="k", value=value)

    bench.send("in", range(12))
    async with running(app):
        await until(lambda: app.engine.counts.get("commits", 0) >= 3)
    assert [row.json for row in bench.committed("out")] == list(range(12))
    assert transactions(bench, 12) == 3

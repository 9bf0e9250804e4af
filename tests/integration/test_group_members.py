"""Members of another kind in a worker's group: it says who they are, and nothing is taken from one that runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import Consumer

from streamapp.app import App
from streamapp.client.member import ConsumerEnded

pytestmark = pytest.mark.kafka
KINDS = {"classic": "members of another kind", "consumer": "group.protocol=consumer (KIP-848)"}


@contextmanager
def member(bench: Any, kind: str, *, seated: bool = True) -> Iterator[Consumer]:
    """A member of the app's group by another client."""
    consumer = Consumer(
        {"bootstrap.servers": bench.bootstrap, "group.id": bench.name("app"), "group.protocol": kind, "log_level": 0}
    )
    try:
        consumer.subscribe([bench.name("in")])
        until = time.monotonic() + 30
        while seated and not consumer.assignment():
            assert time.monotonic() < until
            consumer.poll(0.1)
        yield consumer
    finally:
        consumer.close()


def app(bench: Any) -> App:
    made = bench.app()

    @made.agent(made.topic(bench.name("in")))
    async def copy(stream: Any) -> None:
        async for value in stream:
            await made.topic(bench.name("out")).send(key="k", value=value)

    return made


@pytest.mark.parametrize("kind", KINDS)
async def test_a_worker_that_is_not_taken_says_who_is_there(bench: Any, until: Any, kind: str) -> None:
    bench.create("in", "out")
    made = app(bench)
    made.finalize()
    with member(bench, kind):
        try:
            async with asyncio.timeout(30):
                await made.start()
            await until(lambda: made.failure is not None)
        finally:
            await made.stop()
    assert isinstance(made.failure, ConsumerEnded)
    for part in (KINDS[kind], bench.name("app"), "kafka-consumer-groups.sh", "STREAMAPP_ID"):
        assert part in str(made.failure)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_worker_that_runs_is_not_disturbed(bench: Any, running: Any, kind: str) -> None:
    bench.create("in", "out")
    async with running(app(bench)):
        with member(bench, kind, seated=False) as other:
            message = await asyncio.to_thread(other.poll, 20)
            assert message is not None and message.error() is not None
        bench.send("in", [1])
        await bench.wait_for("out", 1)

"""Senders with each of librdkafka's partitioners: where their records are on the broker, and what a worker does."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import defaultdict
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
import pytest
from confluent_kafka import Producer
from yarl import URL

from streamapp.eos.partitioner import DEFAULT, PARTITIONERS
from streamapp.web.server import serving

pytestmark = pytest.mark.kafka

PARTITIONS = 5
KEYS = ["a", "ümlaut", "漢字 🙂", "nul\x00inside", "x" * 5000, *(f"key-{number}" for number in range(300))]
#: As often as each comes: enough for one that goes anywhere to have been in two partitions.
OFTEN = 60
WAIT_S = 60.0
OTHERS = sorted(name for name, it in PARTITIONERS.items() if it.hashing != DEFAULT.hashing)
#: The name in librdkafka that nothing is set for.
UNSET = "consistent_random"


class Order(msgspec.Struct, frozen=True):
    number: int


def send(bench: Any, topic: str, name: str, keys: list[str | None]) -> dict[str | None, set[int]]:
    """A record of each key; the partitions in which the broker has them."""
    options = {"bootstrap.servers": bench.bootstrap, "sticky.partitioning.linger.ms": 0, "enable.idempotence": True}
    producer = Producer(options if name == UNSET else {**options, "partitioner": name})
    found: dict[str | None, set[int]] = defaultdict(set)

    def note(_: Any, message: Any) -> None:
        assert message.error() is None
        key = message.key()
        found[None if key is None else key.decode()].add(message.partition())

    for number, key in enumerate(keys):
        producer.produce(bench.name(topic), json.dumps({"number": number}), key, on_delivery=note)
        producer.poll(0)
    assert producer.flush(WAIT_S) == 0
    return found


def counting(bench: Any, partitioner: str | None) -> Any:
    app = bench.app("counting", partitions=PARTITIONS, session_timeout=10.0)
    seen = app.Table("seen", default=int)
    out = app.topic(bench.name("out"), value_type=Order, partitioner=partitioner)

    @app.agent(app.topic(bench.name("in"), value_type=Order, partitioner=partitioner))
    async def count(stream: Any) -> None:
        async for key, order in stream.items():
            if key is not None:
                seen[key] += 1
            await out.send(key=key, value=order)

    return app


@pytest.mark.parametrize("name", PARTITIONERS)
def test_a_key_is_where_librdkafka_puts_it(bench: Any, name: str) -> None:
    bench.create("in", partitions=PARTITIONS)
    partitioner = PARTITIONERS[name]
    found = send(bench, "in", name, [*KEYS, *["", None] * OFTEN])
    assert len(found) == len(KEYS) + 2
    for key, places in found.items():
        raw = None if key is None else key.encode()
        if partitioner.scatters(raw):
            assert len(places) > 1, key
        else:
            assert places == {partitioner.partition_for(raw, PARTITIONS, 0)}, key


@pytest.mark.parametrize("name", OTHERS)
async def test_a_worker_that_declares_it_processes_everything_and_shows_each_row(
    bench: Any, running: Any, name: str
) -> None:
    bench.create("in", "in-dlt", "out", "out-dlt", partitions=PARTITIONS)
    keys = [*KEYS, *KEYS, *["", None] * OFTEN]
    sent = await asyncio.to_thread(send, bench, "in", name, keys)
    apps = [counting(bench, name) for _ in range(2)]
    async with AsyncExitStack() as stack:
        addresses = [await stack.enter_async_context(serving(app, 0)) for app in apps]
        await stack.enter_async_context(running(*apps))
        placed = await bench.wait_for("out", len(keys))
        assert {row.key for row in placed} == sent.keys()
        for row in placed:
            raw = None if row.key is None else row.key.encode()
            assert PARTITIONERS[name].scatters(raw) or sent[row.key] == {row.partition}
        async with aiohttp.ClientSession() as session:
            for number, key in enumerate(KEYS):
                path = f"{addresses[number % 2]}/tables/seen/{quote(key, safe='')}"
                async with session.get(URL(path, encoded=True)) as answer:
                    row = await answer.json()
                assert (row["value"], {row["partition"]}) == (2, sent[key]), key
    assert not bench.committed("in-dlt")


async def test_a_worker_that_does_not_declare_it_makes_dead_letters_with_a_line(
    bench: Any, running: Any, caplog: pytest.LogCaptureFixture
) -> None:
    bench.create("in", "in-dlt", "out", "out-dlt", partitions=PARTITIONS)
    caplog.set_level(logging.WARNING)
    sent = await asyncio.to_thread(send, bench, "in", UNSET, [*KEYS, *[None] * OFTEN])
    away = {key for key in KEYS if sent[key] != {DEFAULT.partition_of(key.encode(), PARTITIONS)}}
    assert len(away) > len(KEYS) / 2
    async with running(counting(bench, None)):
        letters = await bench.wait_for("in-dlt", len(away))
        assert {row.key for row in letters} == away
        await bench.wait_for("out", len(KEYS) + OFTEN - len(away))
    lines = [record.getMessage() for record in caplog.records if "is a dead letter" in record.getMessage()]
    assert lines and all("partitioner=murmur2_random at the senders" in line for line in lines)
    assert all("""partitioner="consistent_random") is librdkafka's default""" in line for line in lines)


@pytest.mark.parametrize("name", PARTITIONERS)
async def test_what_is_sent_outside_of_a_worker_goes_by_it_too(bench: Any, name: str) -> None:
    bench.create("in", partitions=PARTITIONS)
    app = bench.app("script", partitions=PARTITIONS)
    topic = app.topic(bench.name("in"), value_type=bytes, partitioner=name)
    keys = [*KEYS[:30], "", None]
    try:
        for key in keys:
            await (await topic.send(key=None if key is None else key.encode(), value=b"1"))
        topic.send_soon(key=b"soon", value=b"1")
        rows = await bench.wait_for("in", len(keys) + 1)
    finally:
        await app.producer.stop()
    for row in rows:
        raw = None if row.key is None else row.key.encode()
        if not PARTITIONERS[name].scatters(raw):
            assert row.partition == PARTITIONERS[name].partition_for(raw, PARTITIONS, 0), row.key

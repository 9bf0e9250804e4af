"""Versions of a record side by side: in one topic, in one table, and in the changelogs the last release wrote."""

from __future__ import annotations

import base64
import json
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from confluent_kafka import Producer

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from group_offsets import commit_beginning
from service import Service

pytestmark = pytest.mark.kafka

RECORDED = sorted((Path(__file__).parents[1] / "data").glob("changelogs-*.jsonl"))
#: Marks in the recordings are as old as these; none may be forgotten.
CENTURIES_S = 3_153_600_000


class Sale(msgspec.Struct, frozen=True):
    """The first version."""

    KEY: ClassVar[str] = "shop"
    shop: str
    cents: int


class GrownSale(msgspec.Struct, frozen=True):
    """The second one: a field with a default more."""

    KEY: ClassVar[str] = "shop"
    shop: str
    cents: int
    currency: str = "EUR"
    note: str | None = None


def summing(bench: Any, version: type[Any], out: str, id: str) -> Any:
    """An app that keeps the last sale of a shop in a table and sends the sums by currency."""
    app = bench.app(id=id, store="rocksdict", instance="w")
    sums = app.topic(bench.name(out))
    last = app.Table("last", value_type=version)

    @app.agent(app.topic(bench.name("sale"), value_type=version))
    async def add_up(stream: Any) -> None:
        async for sale in stream:
            before = last.get(sale.shop)
            cents = sale.cents + (before.cents if before is not None else 0)
            last[sale.shop] = msgspec.structs.replace(sale, cents=cents)
            await sums.send(key=sale.shop, value={"cents": cents, "currency": getattr(sale, "currency", "-")})

    return app


#: Old records, new ones, and some of a version that is still to come.
MIXED = [
    {"shop": "a", "cents": 1},
    {"shop": "a", "cents": 2, "currency": "USD", "note": "new"},
    {"shop": "a", "cents": 4, "currency": "EUR", "loyalty": {"points": [1, 2]}},
    {"shop": "a", "cents": 8, "note": None},
    {"shop": "a", "cents": 16},
]


async def test_old_and_new_records_are_read_by_old_and_new_agents(bench: Any, running: Any) -> None:
    bench.create("sale", "sale-dlt", "old-sums", "new-sums")
    bench.send("sale", MIXED, key="a")
    async with running(summing(bench, Sale, "old-sums", "old"), summing(bench, GrownSale, "new-sums", "new")):
        old = await bench.wait_for("old-sums", len(MIXED))
        new = await bench.wait_for("new-sums", len(MIXED))
    assert [row.json["cents"] for row in old] == [row.json["cents"] for row in new] == [1, 3, 7, 15, 31]
    assert [row.json["currency"] for row in new] == ["EUR", "USD", "EUR", "EUR", "EUR"]
    assert bench.committed("sale-dlt") == []


@pytest.mark.parametrize("lose_the_disk", [False, True], ids=["from disk", "from the changelog"])
async def test_a_table_goes_on_with_the_next_version(
    bench: Any, running: Any, lose_the_disk: bool, tmp_path: Path
) -> None:
    bench.create("sale", "sale-dlt", "sums")
    bench.send("sale", MIXED[:2], key="a")
    async with running(summing(bench, Sale, "sums", "app")):
        await bench.wait_for("sums", 2)
    if lose_the_disk:
        shutil.rmtree(tmp_path)
    bench.send("sale", MIXED[2:], key="a")
    async with running(summing(bench, GrownSale, "sums", "app")):
        rows = await bench.wait_for("sums", len(MIXED))
    assert [row.json["cents"] for row in rows] == [1, 3, 7, 15, 31]


@pytest.mark.parametrize("path", RECORDED, ids=[path.stem for path in RECORDED])
def test_changelogs_of_a_released_version_are_restored(
    path: Path, kafka: Any, topic_prefix: str, tmp_path: Path
) -> None:
    header, *records = (json.loads(line) for line in path.read_text().splitlines())
    with Service(kafka.bootstrap, topic_prefix, tmp_path) as service:
        service.create_topics(header["partitions"])
        for table in {record["table"] for record in records}:
            config = {"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime"}
            service.create(f"{topic_prefix}-{table}-changelog", header["partitions"], **config)
        # The tables hold work, so a worker begins nowhere by itself: this group has offsets, at the beginning.
        commit_beginning(kafka.bootstrap, topic_prefix, service.topics.all, header["partitions"])
        _write(kafka.bootstrap, topic_prefix, records)
        # What was processed comes again, then one cent of every account that has some goes to the outside.
        spending = [account for account, cents in header["balances"].items() if cents > 0 and account[0] != "@"]
        again = [(key.encode(), value.encode()) for key, value in header["transfers"]]
        _send(kafka.bootstrap, service.topics.transfer, again + [_one_cent(account) for account in spending])
        worker = service.worker(INBOX_RETENTION=CENTURIES_S)
        service.until_committed(len(again) + len(spending))
        service.until_committed(2 * len(spending), service.topics.balances)
        assert worker.stop() == 0, worker.said

        legs = [json.loads(value) for value, _ in service.read(service.topics.balances)]
        upserts = [json.loads(value) for value, _ in service.read(f"{topic_prefix}-account-balances")]
    assert Counter(leg["event_id"] for leg in legs) == Counter(
        f"cent-{account}:{leg}" for account in spending for leg in ("debit", "credit")
    )
    after = {upsert["account"]: upsert["balances"]["EUR"] for upsert in upserts}
    assert len(spending) > 5
    assert {account: after[account] for account in spending} == {
        account: header["balances"][account] - 1 for account in spending
    }


def _write(bootstrap: str, prefix: str, records: list[Any]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    for record in records:
        key, value = (None if record[it] is None else base64.b64decode(record[it]) for it in ("key", "value"))
        producer.produce(f"{prefix}-{record['table']}-changelog", value, key, record["partition"])
    assert producer.flush(30) == 0


def _one_cent(account: str) -> tuple[bytes, bytes]:
    fields = {"event_id": f"cent-{account}", "from_account": account, "to_account": "@outside", "amount": 1}
    fields |= {"currency": "EUR", "occurred_at": "2024-05-02T12:00:00Z"}
    return account.encode(), json.dumps(fields).encode()


def _send(bootstrap: str, topic: str, records: list[tuple[bytes, bytes]]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "enable.idempotence": True})
    for key, value in records:
        producer.produce(topic, value, key)
    assert producer.flush(30) == 0

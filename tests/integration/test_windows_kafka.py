"""Windows on real Kafka: finals once, late records, silences, bounds, aborts, restarts and restores."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import pytest
from aborted import abort_transaction

from streamapp.errors import ConfigurationError
from streamapp.windows import Count, Sum

pytestmark = pytest.mark.kafka

T0 = "2026-01-01T00:00:00Z"


def order(second: float, amount: int = 1) -> dict[str, Any]:
    minute, rest = divmod(second, 60)
    return {"occurred_at": f"2026-01-01T00:{int(minute):02}:{rest:06.3f}Z", "amount": amount}


def counting(bench: Any, app: Any, **options: Any) -> Any:
    """An agent of `order` that adds up each key's orders in windows of a minute, with ten seconds of grace."""
    windowed = {name: options.pop(name) for name in ("retention", "idle") if name in options}
    table = (
        app.Table("totals")
        .tumbling(60, grace=10, topic=bench.name("order"), **windowed)
        .aggregate(count=Count(), amount=Sum("amount"))
        .upsert_to(app.topic(bench.name("totals")), **options)
    )

    @app.agent(app.topic(bench.name("order")))
    async def add(stream: Any) -> None:
        async for event in stream.events():
            if event.value["amount"] is not None:
                table.add(event.key.decode(), event.value)

    return table


def upserts(bench: Any, topic: str = "totals") -> dict[str, list[tuple[int, int, int, bool]]]:
    """(revision, count, amount, final) of each key's upserts, in order."""
    found = defaultdict(list)
    for row in bench.committed(topic):
        value = row.json
        assert row.key == f"{value['key']}|{value['window_start']}"
        found[row.key].append((value["revision"], value["count"], value["amount"], value["final"]))
    return dict(found)


async def consumed(app: Any, until: Any, bench: Any, count: int) -> None:
    """Until the offsets of `count` orders are committed."""

    def enough() -> bool:
        offsets = [offset for place, offset in app.engine.committed.items() if place.topic == bench.name("order")]
        return sum(offsets) >= count

    await until(enough)


async def test_a_window_is_upserted_and_closed_once_and_what_comes_later_is_set_aside(
    bench: Any, running: Any, until: Any
) -> None:
    app = bench.app()
    counting(bench, app)
    bench.create("order", partitions=2)
    bench.send("order", [order(5, 10), order(59.999, 5), order(60, 7), order(8, 1), order(70, 2), order(59, 99)])
    async with running(app):
        await consumed(app, until, bench, 6)
        assert app.engine.counts["late_records"] == 1
        assert app.engine.counts["windows_closed"] == 1
    assert upserts(bench) == {
        f"k|{T0}": [(1, 1, 10, False), (2, 2, 15, False), (3, 3, 16, False), (4, 3, 16, True)],
        "k|2026-01-01T00:01:00Z": [(1, 1, 7, False), (2, 2, 9, False)],
    }
    (late,) = bench.committed("order-late")
    headers = {name: value.decode() for name, value in late.headers if value is not None}
    assert (late.key, late.json) == ("k", order(59, 99))
    assert headers["late-windows"] == f"{T0}/2026-01-01T00:01:00Z"
    assert headers["late-watermark"] == "2026-01-01T00:01:10Z"
    assert headers["late-table"] == "totals"
    assert headers["late-original-offset"] == "5"
    (source,) = {row.partition for row in bench.committed("order")}
    assert late.partition == source


@pytest.mark.parametrize("state", ["kept", "lost"])
async def test_open_windows_survive_the_worker_and_closed_ones_stay_closed(
    bench: Any, running: Any, until: Any, state: str, tmp_path: Any
) -> None:
    bench.create("order", partitions=2)
    for turn, orders in enumerate(([order(5), order(61), order(75)], [order(6), order(62), order(130)])):
        app = bench.app(store="rocksdict", instance="w")
        counting(bench, app)
        bench.send("order", orders)
        async with running(app):
            await consumed(app, until, bench, 3 * (turn + 1))
        if state == "lost":
            shutil.rmtree(tmp_path / bench.name("app"))
    assert upserts(bench) == {
        f"k|{T0}": [(1, 1, 1, False), (2, 1, 1, True)],
        "k|2026-01-01T00:01:00Z": [(1, 1, 1, False), (2, 2, 2, False), (3, 3, 3, False), (4, 3, 3, True)],
        "k|2026-01-01T00:02:00Z": [(1, 1, 1, False)],
    }
    assert [row.json for row in bench.committed("order-late")] == [order(6)]


async def test_an_aborted_transaction_takes_finals_and_watermark_with_it(bench: Any, running: Any, until: Any) -> None:
    app = bench.app(commit_interval=1.0)
    counting(bench, app)
    bench.create("order", partitions=2)
    bench.send("order", [order(5), order(75), order(6)])
    async with running(app):
        await until(lambda: app.engine.committer.schedule.finished == 3)
        await abort_transaction(app.engine)
        await consumed(app, until, bench, 3)
        assert app.engine.counts["aborts"] == 1
    assert upserts(bench)[f"k|{T0}"] == [(1, 1, 1, False), (2, 1, 1, True)]
    assert len(bench.committed("order-late")) == 1


async def test_a_silence_closes_windows_for_good_in_a_transaction_of_its_own(
    bench: Any, running: Any, until: Any
) -> None:
    bench.create("order", partitions=2)
    app = bench.app(window_idle=0.6)
    counting(bench, app, final_only=True)
    async with running(app):
        bench.send("order", [order(5, 10)], partition=0)
        bench.send("order", [order(5, 20)], key="other", partition=1)
        await bench.wait_for("totals", 2)
    app = bench.app(window_idle=0)
    table = counting(bench, app, final_only=True)
    bench.send("order", [order(6), order(61)], partition=0)
    async with running(app):
        await consumed(app, until, bench, 4)
        assert [window.final for window in table.windows_in(_rows(app, 0), "k")] == [True, False]
    assert upserts(bench) == {f"k|{T0}": [(1, 1, 10, True)], f"other|{T0}": [(1, 1, 20, True)]}
    assert [row.json for row in bench.committed("order-late")] == [order(6)]


def _rows(app: Any, number: int) -> Any:
    (task,) = [task for task in app.engine.tasks if task.number == number]
    return task.stores["totals"].begin()


async def test_no_silence_without_the_setting_and_none_while_records_wait(bench: Any, running: Any, until: Any) -> None:
    bench.create("order", partitions=1)
    app = bench.app(partitions=1, window_idle=0.3)
    counting(bench, app, final_only=True)
    bench.send("order", [order(second % 50) for second in range(600)])
    slow = {"count": 0}

    @app.agent(app.topic(bench.name("order")), name="slow")
    async def slow_agent(stream: Any) -> None:
        async for _ in stream:
            slow["count"] += 1
            await asyncio.sleep(0.002)

    async with running(app):
        await until(lambda: slow["count"] >= 500)
        assert "windows_closed" not in app.engine.counts, "600 records take longer than the silence, and are none"
        await bench.wait_for("totals", 1)
    assert upserts(bench) == {f"k|{T0}": [(1, 600, 600, True)]}


async def test_more_windows_than_a_unit_closes_are_closed_without_another_event(
    bench: Any, running: Any, until: Any
) -> None:
    bench.create("order", partitions=1)
    app = bench.app(partitions=1)
    counting(bench, app, final_only=True, retention=0)
    bench.send("order", [order(5, number) for number in range(5000)], key=lambda it: f"k{it['amount']}")
    async with running(app):
        await consumed(app, until, bench, 5000)
        bench.send("order", [order(75)], key="last")
        rows = await bench.wait_for("totals", 5000)
        assert {row.json["amount"] for row in rows} == set(range(5000))
        assert all(row.json["final"] for row in rows)
        await until(lambda: app.engine.counts.get("windows_closed") == 5000)
        assert [key for key, _ in app.tables["totals"].windowed.items_in(_rows(app, 0))] == ["last"]


async def test_a_record_from_the_future_closes_nothing(bench: Any, running: Any, until: Any) -> None:
    bench.create("order", partitions=1, message__timestamp__type="LogAppendTime")
    app = bench.app(partitions=1)
    table = counting(bench, app)
    far = {"occurred_at": f"{datetime.now(UTC).year + 1}-01-01T00:00:00Z", "amount": 1}
    bad = [far, {"occurred_at": "1969-12-31T23:59:59Z", "amount": 1}, {"occurred_at": "soon", "amount": 1}]
    bench.send("order", [order(5), *bad, {"amount": None}, order(6)])
    async with running(app):
        await consumed(app, until, bench, 6)
        assert app.engine.counts["dead_letters"] == 3
        ((*_, value, _, final),) = table.windows_in(_rows(app, 0), "k")
        assert (value, final) == ({"count": 2, "amount": 2}, False)
    kinds = [dict(row.headers)["dlt-exception-fqcn"] for row in bench.committed("order-dlt")]
    assert kinds == [b"TooFarAhead", b"BeforeEpoch", b"InvalidRecord"]


async def test_an_event_that_fails_moves_no_watermark(bench: Any, running: Any, until: Any) -> None:
    bench.create("order", partitions=1)
    app = bench.app(partitions=1)
    counting(bench, app)
    bench.send("order", [order(5), {**order(200), "amount": "many"}, order(6)])
    async with running(app):
        await consumed(app, until, bench, 3)
    assert upserts(bench) == {f"k|{T0}": [(1, 1, 1, False), (2, 2, 2, False)]}


async def test_batches_are_refused(bench: Any, running: Any, until: Any) -> None:
    bench.create("order", partitions=1)
    app = bench.app(partitions=1)
    table = app.Table("t").tumbling(60, topic=bench.name("order")).aggregate(count=Count())

    @app.agent(app.topic(bench.name("order")))
    async def add(stream: Any) -> None:
        async for values in stream.take(10, within=1):
            for value in values:
                table.add("k", value)

    with pytest.raises(ConfigurationError, match="one at a time"):
        async with running(app):
            bench.send("order", [order(5), order(6)])
            await until(lambda: app.failure is not None)


async def test_the_changelog_and_the_late_topic_have_the_partitions_of_the_source(
    bench: Any, running: Any, until: Any
) -> None:
    bench.create("order", partitions=3)
    app = bench.app(partitions=2)
    counting(bench, app)
    async with running(app):
        late, log = [
            await app.engine.producer.ensure(name)
            for name in (bench.name("order-late"), app.tables["totals"].changelog_topic_name)
        ]
        assert (late.partition_count, late.compacted) == (3, False)
        assert (log.partition_count, log.compacted) == (3, True)
        assert (await app.engine.producer.ensure(bench.name("totals"))).compacted


async def test_a_plain_table_upserts_its_rows_to_a_compacted_topic(bench: Any, running: Any, until: Any) -> None:
    bench.create("order", partitions=2)
    app = bench.app()
    rows = app.Table("rows").upsert_to(app.topic(bench.name("rows-now")))

    @app.agent(app.topic(bench.name("order")))
    async def keep(stream: Any) -> None:
        async for event in stream.events():
            key, amount = event.key.decode(), event.value["amount"]
            if amount is None:
                del rows[key]
            else:
                rows[key] = amount

    bench.send("order", [order(1, 7), {"amount": None}, order(2, 8)])
    async with running(app):
        await consumed(app, until, bench, 3)
    assert [(row.key, row.json) for row in bench.committed("rows-now")] == [("k", 7), ("k", None), ("k", 8)]
    changelog = bench.committed(app.tables["rows"].changelog_topic_name, full_name=True)
    assert json.loads(changelog[-1].value or b"") == 8


def keeping(bench: Any, app: Any, **options: Any) -> Any:
    """An agent of `order` that keeps each key's last amount."""
    rows = app.Table("rows", partitions=3).upsert_to(app.topic(bench.name("rows-now")), **options)

    @app.agent(app.topic(bench.name("order")))
    async def keep(stream: Any) -> None:
        async for event in stream.events():
            rows[event.key.decode()] = event.value["amount"]

    return rows


async def test_what_a_plain_table_holds_back_is_sent_by_the_next_worker(
    bench: Any, running: Any, until: Any, tmp_path: Any
) -> None:
    bench.create("order", partitions=3)
    app = bench.app(store="rocksdict", instance="w")
    keeping(bench, app, emit_every=6)
    bench.send("order", [order(1, 7), order(2, 8), order(3, 9)])
    async with running(app):
        await consumed(app, until, bench, 3)
    assert [row.json for row in bench.committed("rows-now")] == [7]
    shutil.rmtree(tmp_path / bench.name("app"))
    app = bench.app(store="rocksdict", instance="w")
    keeping(bench, app, emit_every=6)
    async with running(app):
        await bench.wait_for("rows-now", 2)
        marks, rows = app.tables["rows_upserts"], app.tables["rows"]
        counts = [(await app.engine.producer.ensure(it.changelog_topic_name)).partition_count for it in (marks, rows)]
        assert counts == [3, 3]
    assert [(row.key, row.json) for row in bench.committed("rows-now")] == [("k", 7), ("k", 9)]

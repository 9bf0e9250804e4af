"""What happens to the events of agents that raise, hang, or are cut through by an abort; and timers beside them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import faust
import pytest
from group_offsets import commit_beginning

from streamapp.engine.barrier import BARRIERS_MISSED_MAX, BarrierHeld
from streamapp.engine.unit import UnitMisuse
from streamapp.errors import TransactionAborted

pytestmark = pytest.mark.kafka

RAISING = 1000


async def test_a_thousand_raising_events_are_a_thousand_dead_letters_and_the_agent_goes_on(
    bench: Any, running: Any
) -> None:
    app = bench.app()
    out, table = app.topic(bench.name("out"), value_type=int), app.Table("rows", default=int)

    @app.agent(app.topic(bench.name("in"), value_type=int))
    async def raises(stream: Any) -> None:
        async for value in stream:
            table["count"] += 1
            await out.send(key="k", value=value)
            if value:
                raise ValueError(f"no {value}")

    bench.create("in", "out")
    bench.send("in", [*range(1, RAISING + 1), 0])
    async with running(app):
        rows = await bench.wait_for("out", 1)
        letters = await bench.wait_for("in-dlt", RAISING)
    assert rows[0].json == 0
    assert [letter.json for letter in letters] == list(range(1, RAISING + 1))
    headers = dict(letters[6].headers)
    assert headers["dlt-exception-message"] == b"no 7"
    assert headers["dlt-original-offset"] == b"6"
    # What the raising ones wrote to the table is gone with what they sent.
    changelog = bench.committed(f"{app.conf.id}-rows-changelog", full_name=True)
    assert [row.json for row in changelog] == [1]


async def test_one_agent_raising_takes_back_what_the_others_did_for_the_event(bench: Any, running: Any) -> None:
    app = bench.app()
    topic, out = app.topic(bench.name("in"), value_type=int), app.topic(bench.name("out"), value_type=int)
    cancelled = []

    @app.agent(topic)
    async def quick(stream: Any) -> None:
        async for value in stream:
            await out.send(key="quick", value=value)

    @app.agent(topic)
    async def slow(stream: Any) -> None:
        async for value in stream:
            await out.send(key="slow", value=value)
            try:
                await asyncio.sleep(0.01 if value != 3 else 30)
            except asyncio.CancelledError:
                cancelled.append(value)
                raise
            await out.send(key="slow again", value=value)

    @app.agent(topic)
    async def raising(stream: Any) -> None:
        async for value in stream:
            await asyncio.sleep(0.005)
            if value == 3:
                raise ValueError("three")

    bench.create("in", "out")
    bench.send("in", range(6))
    async with running(app):
        rows = await bench.wait_for("out", 15)
        await bench.wait_for("in-dlt", 1)
    assert Counter(row.json for row in rows) == {n: 3 for n in range(6) if n != 3}
    assert cancelled == [3]


async def test_a_batch_is_all_or_nothing_and_one_that_raises_runs_again_one_by_one(bench: Any, running: Any) -> None:
    app = bench.app(commit_interval=0.3)
    out, table = app.topic(bench.name("out"), value_type=int), app.Table("sum", default=int)
    sizes, within = [], 60  # far beyond the commit interval: the partial batch must not wait for it

    @app.agent(app.topic(bench.name("in"), value_type=int))
    async def batches(stream: Any) -> Any:
        async for values in stream.take(10, within=within):
            sizes.append(len(values))
            table["sum"] += sum(values)
            for value in values:
                await out.send(key="k", value=value)
            if 17 in values:
                raise ValueError("seventeen")
            yield len(values)

    bench.create("in", "out")
    bench.send("in", range(34))
    began = time.monotonic()
    async with running(app):
        rows = await bench.wait_for("out", 33)
        letters = await bench.wait_for("in-dlt", 1)
        assert time.monotonic() - began < within / 2
    assert [row.json for row in rows] == [n for n in range(34) if n != 17]
    assert [letter.json for letter in letters] == [17]
    changelog = bench.committed(f"{app.conf.id}-sum-changelog", full_name=True)
    assert changelog[-1].json == sum(range(34)) - 17
    assert sizes[0] == 10
    assert sizes[1:12] == [10, *[1] * 10]
    assert sum(sizes) == 44


async def test_filters_and_events_in_batches(bench: Any, running: Any) -> None:
    app = bench.app()
    out = app.topic(bench.name("out"), value_type=int)

    @app.agent(app.topic(bench.name("in"), value_type=int))
    async def batches(stream: Any) -> None:
        async for events in stream.filter(lambda value: value % 3 != 0).take_events(5, within=1):
            for event in events:
                await event.send(out)

    bench.create("in", "out")
    bench.send("in", range(30))
    async with running(app):
        rows = await bench.wait_for("out", 20)
    assert [row.json for row in rows] == [n for n in range(30) if n % 3]


async def test_an_agent_that_hangs_is_named_its_event_runs_again_and_the_others_go_on(
    bench: Any, running: Any, caplog: Any
) -> None:
    app = bench.app(session_timeout=4.0, transaction_timeout=3.0)
    out, seen = app.topic(bench.name("out"), value_type=int), Counter[int]()

    @app.agent(app.topic(bench.name("in"), value_type=int))
    async def hangs(stream: Any) -> None:
        async for value in stream:
            seen[value] += 1
            await out.send(key="k", value=value)
            if value == 5 and seen[value] == 1:
                await asyncio.sleep(3600)

    bench.create("in", "out")
    bench.send("in", range(10))
    async with running(app):
        rows = await bench.wait_for("out", 10)
    assert [row.json for row in rows] == list(range(10))
    assert seen[5] == 2
    said = [record.getMessage() for record in caplog.records if "not finished within" in record.getMessage()]
    assert len(said) == 1
    assert "hangs" in said[0]
    assert f"{bench.name('in')}[" in said[0]


async def test_an_agent_that_hangs_every_time_ends_the_worker(bench: Any, running: Any, until: Any) -> None:
    app = bench.app(session_timeout=4.0, transaction_timeout=3.0)
    attempts = []

    @app.agent(app.topic(bench.name("in"), value_type=int))
    async def hangs(stream: Any) -> None:
        async for value in stream:
            attempts.append(value)
            await asyncio.sleep(3600)

    bench.create("in")
    bench.send("in", [1])
    with pytest.raises(BarrierHeld, match="hangs"):
        async with running(app):
            await until(lambda: app.failure is not None)
    assert attempts == [1] * BARRIERS_MISSED_MAX


async def test_an_abort_doubles_nothing_and_loses_no_run_of_a_timer(
    bench: Any, running: Any, until: Any, monkeypatch: Any
) -> None:
    app = bench.app()
    out, ticks = app.topic(bench.name("out"), value_type=int), app.topic(bench.name("ticks"), value_type=int)
    table = app.Table("seen", default=int)
    ran = 0

    @app.agent(app.topic(bench.name("in"), value_type=int), concurrency=2)
    async def work(stream: Any) -> None:
        async for event in stream.events():
            table[event.key] += 1
            await asyncio.sleep(0.002)
            await out.send(key=event.key, value=table[event.key])

    @app.timer(interval=0.05)
    async def tick() -> None:
        nonlocal ran
        await ticks.send(key="tick", value=ran)
        await asyncio.sleep(0.01)
        await ticks.send(key="tock", value=ran)
        ran += 1

    bench.create("in", "out", "ticks")
    bench.send("in", range(200), key=lambda n: f"key-{n % 5}")
    async with running(app):
        engine, aborts = app.engine, 0
        assert engine is not None
        bind = engine.producer.bind

        async def refused(*args: Any) -> None:
            nonlocal aborts
            aborts += 1
            if aborts % 2:
                raise TransactionAborted("as a test wants it")
            await bind(*args)

        monkeypatch.setattr(engine.producer, "bind", refused)
        rows = await bench.wait_for("out", 200)
        await until(lambda: ran >= 10)
        monkeypatch.undo()
    assert aborts > 4
    for n in range(5):
        assert [row.json for row in rows if row.key == f"key-{n}"] == list(range(1, 41))
    said = bench.committed("ticks")
    for name in ("tick", "tock"):
        numbers = [row.json for row in said if row.key == name]
        assert sorted(numbers) == list(range(len(numbers))), "a run was lost or doubled"
        assert len(numbers) in (ran, ran + 1)
    assert len(said) % 2 == 0, "half a run"


async def test_timers_run_at_the_leader_and_may_not_touch_tables(
    bench: Any, running: Any, until: Any, monkeypatch: Any
) -> None:
    apps = [bench.app() for _ in range(2)]
    errors, leaders, crons = [], [], []
    monkeypatch.setattr("streamapp.driver.crontab.next_run", lambda _, after_s, timezone: after_s + 0.05)
    for number, app in enumerate(apps):

        def declare(number: int, app: Any) -> None:
            table, out = app.Table("rows", default=int), app.topic(bench.name("out"), value_type=int)

            @app.agent(app.topic(bench.name("in")))
            async def idle(stream: Any) -> None:
                async for _ in stream:
                    pass

            @app.timer(interval=0.05, on_leader=True)
            async def touches() -> None:
                leaders.append(number)
                try:
                    table["x"] += 1
                except UnitMisuse as exc:
                    errors.append(str(exc))

            @app.crontab("* * * * *", on_leader=True)
            async def cron() -> None:
                crons.append(number)
                await out.send(key="cron", value=len(crons))

        declare(number, app)
    bench.create("in", "out")
    async with running(*apps):
        await until(lambda: len(errors) > 3 and len(crons) > 3)
    assert "Send a record to a topic whose agent does it" in errors[0]
    rows = bench.committed("out")
    assert sorted(row.json for row in rows) == list(range(1, len(rows) + 1))
    assert len(rows) >= len(crons) - 1


async def test_at_least_once_is_the_same_engine_without_transactions(
    bench: Any, running: Any, monkeypatch: Any
) -> None:
    def made() -> Any:
        app = bench.app(processing_guarantee="at_least_once", store="rocksdict")
        out, table = app.topic(bench.name("out"), value_type=int), app.Table("count", default=int)

        @app.agent(app.topic(bench.name("in"), value_type=int))
        async def work(stream: Any) -> None:
            async for value in stream:
                table["n"] += 1
                await out.send(key="k", value=value)
                if value == 13:
                    raise ValueError("unlucky")

        return app

    app = made()
    bench.create("in", "out")
    bench.send("in", range(100))
    async with running(app):
        await bench.wait_for("out", 99)
        await bench.wait_for("in-dlt", 1)
        assert app.engine.producer.transactional_id is None
        # A refused commit of offsets: what was produced stays, and its events run again.
        monkeypatch.setattr(app.engine.producer, "bind", _refuse_once(app.engine.producer.bind))
        bench.send("in", range(100, 110))
        rows = await bench.wait_for("out", 119)
    assert Counter(row.json for row in rows) == {n: 2 if n >= 100 else 1 for n in range(110) if n != 13}
    again = made()
    bench.send("in", range(110, 120))
    async with running(again):
        await bench.wait_for("out", 129)
    changelog = bench.committed(f"{app.conf.id}-count-changelog", full_name=True)
    assert changelog[-1].json == 119


def _refuse_once(bind: Any) -> Any:
    refused = []

    async def wrapped(*args: Any) -> None:
        if not refused:
            refused.append(True)
            raise TransactionAborted("as a test wants it")
        await bind(*args)

    return wrapped


async def test_a_changelog_that_stock_faust_wrote_is_restored(bench: Any, running: Any) -> None:
    class Account(faust.Record, serializer="json"):
        owner: str
        balance: int

    # What stock Faust writes for these rows: its own codec of keys and values, by its own serializers.
    stock = faust.App(bench.name("app"), broker="memory://")
    serializers = stock.serializers
    app = bench.app()
    accounts = app.Table("accounts", value_type=Account, key_type=str)
    counts = app.Table("counts", default=int)
    out = app.topic(bench.name("out"))
    for table, rows in (
        ("accounts", {"ada": Account("Ada", 5), "bob": Account("Bob", 7)}),
        ("counts", {"ada": 3, ("pair", 1): 4, 17: 5}),
    ):
        bench.create(f"app-{table}-changelog", cleanup__policy="compact")
        mine = app.tables[table]
        for key, value in rows.items():
            raw_key = serializers.dumps_key(mine.key_type, key, serializer=mine.key_serializer or "json")
            raw_value = serializers.dumps_value(mine.value_type, value, serializer=mine.value_serializer or "json")
            bench.send(f"app-{table}-changelog", [raw_value], key=raw_key, partition=0)
        bench.send(f"app-{table}-changelog", [b'"gone"', None], key=b'"gone"', partition=0)

    @app.agent(app.topic(bench.name("in")))
    async def look(stream: Any) -> None:
        async for _ in stream:
            ada = accounts["ada"]
            await out.send(
                key="k",
                value=[ada.owner, ada.balance, counts["ada"], counts[17], "gone" in counts, len(counts), len(accounts)],
            )

    bench.create("in", "out")
    commit_beginning(bench.bootstrap, bench.name("app"), [bench.name("in")], 2)  # as Faust's group has them
    bench.send("in", [{}], partition=0)
    async with running(app):
        rows = await bench.wait_for("out", 1)
    assert rows[0].json == ["Ada", 5, 3, 5, False, 3, 2]

"""What agents do with events: everything Faust's stream and topic offer happens exactly once, with its event."""

from __future__ import annotations

import asyncio
from typing import Any

import faust
import pytest

pytestmark = pytest.mark.kafka


class Order(faust.Record, serializer="json"):
    item: str
    amount: int


async def test_agents_of_one_topic_share_a_table_and_lose_no_update(bench: Any, running: Any) -> None:
    app = bench.app()
    orders, seen = app.topic(bench.name("orders"), value_type=int), app.topic(bench.name("seen"), value_type=int)
    total = app.Table("total", default=int)

    async def add(event: Any, by: int) -> None:
        before = total["sum"]
        await asyncio.sleep(0)  # the others get their turn between the read and the write
        total["sum"] = before + by

    @app.agent(orders)
    async def first(stream: Any) -> None:
        async for event in stream.events():
            await add(event, event.value)
            await seen.send(key=event.key, value=total["sum"])

    @app.agent(orders)
    async def second(stream: Any) -> None:
        async for event in stream.events():
            await asyncio.sleep(0.001)
            await asyncio.sleep(0)
            total["other"] = total["other"] + event.value

    bench.create("orders", "seen")
    bench.send("orders", range(200))
    async with running(app):
        rows = await bench.wait_for("seen", 200)
    sums = [row.json for row in rows]
    assert sums == [sum(range(n + 1)) for n in range(200)]
    last = {row.key: row.json for row in bench.committed(f"{app.conf.id}-total-changelog", full_name=True)}
    assert last == {'"sum"': sum(range(200)), '"other"': sum(range(200))}


async def test_agents_of_one_topic_may_read_it_as_different_types(bench: Any, running: Any) -> None:
    app = bench.app()
    out = app.topic(bench.name("out"), value_type=str, value_serializer="raw")
    topics = {
        "record": app.topic(bench.name("orders"), value_type=Order),
        "bytes": app.topic(bench.name("orders"), value_type=bytes, value_serializer="raw"),
        "text": app.topic(bench.name("orders"), value_type=str, value_serializer="raw"),
        "json": app.topic(bench.name("orders")),
    }
    for name, topic in topics.items():

        def declare(name: str, topic: Any) -> None:
            @app.agent(topic, name=name)
            async def agent(stream: Any) -> None:
                async for value in stream:
                    await out.send(key=name, value=f"{name} {type(value).__name__}")

        declare(name, topic)
    bench.create("orders", "out")
    bench.send("orders", [{"item": "a", "amount": 1}, {"item": "b", "amount": 2}])
    async with running(app):
        rows = await bench.wait_for("out", 8)
    assert sorted(row.value.decode() for row in rows) == sorted(
        ["record Order", "bytes bytes", "text str", "json dict"] * 2
    )


async def test_what_an_agent_yields_goes_to_its_sinks_and_to_whom_it_may_concern(bench: Any, running: Any) -> None:
    app = bench.app()
    sink, chained = app.topic(bench.name("sink"), value_type=int), app.topic(bench.name("chained"), value_type=int)
    called = []

    @app.agent(chained)
    async def doubled(stream: Any) -> None:
        async for value in stream:
            await sink.send(key="doubled", value=value * 2)

    @app.agent(app.topic(bench.name("asked"), value_type=int), sink=[sink, doubled, called.append])
    async def answer(stream: Any) -> Any:
        async for value in stream:
            yield value + 1

    bench.create("asked", "sink", "chained", "replies")
    headers = [("Faust-Ag-ReplyTo", bench.name("replies").encode()), ("Faust-Ag-CorrelationId", b"c-1")]
    bench.send("asked", [1], headers=headers)
    bench.send("asked", [2])
    async with running(app):
        rows = await bench.wait_for("sink", 4)
        replies = await bench.wait_for("replies", 1)
    assert sorted(row.json for row in rows) == [2, 3, 4, 6]
    assert replies[0].json["value"] == 2
    assert replies[0].json["correlation_id"] == "c-1"
    assert called == [2, 3]


@pytest.mark.parametrize("ending", ["return", "break", "yield"])
async def test_an_agent_that_leaves_its_loop_goes_on_with_the_next_event(bench: Any, running: Any, ending: str) -> None:
    app = bench.app()
    out = app.topic(bench.name("out"), value_type=int)

    async def plain(stream: Any) -> None:
        async for value in stream:
            await out.send(key="k", value=value)
            if value % 3 == 0:
                if ending == "return":
                    return
                break

    async def yielding(stream: Any) -> Any:
        async for value in stream:
            await out.send(key="k", value=value)
            yield value
            if value % 3 == 0:
                return

    app.agent(app.topic(bench.name("in"), value_type=int), name="leaves")(yielding if ending == "yield" else plain)
    bench.create("in", "out")
    bench.send("in", range(20))
    async with running(app):
        rows = await bench.wait_for("out", 20)
    assert [row.json for row in rows] == list(range(20))


async def test_concurrency_gives_each_key_one_actor_and_keeps_its_order(bench: Any, running: Any) -> None:
    app = bench.app()
    out = app.topic(bench.name("out"), value_type=str, value_serializer="raw")
    last = app.Table("last", default=int)
    actors: dict[str, set[int]] = {}
    at_once, most = 0, 0

    @app.agent(app.topic(bench.name("in"), value_type=int), concurrency=4)
    async def work(stream: Any) -> None:
        nonlocal at_once, most
        async for key, value in stream.items():
            actors.setdefault(key, set()).add(stream.concurrency_index)
            at_once += 1
            most = max(most, at_once)
            before = last[key]
            await asyncio.sleep(0.001)
            last[key] = before + 1
            at_once -= 1
            await out.send(key=key, value=f"{value} {before + 1}")

    bench.create("in", "out")
    bench.send("in", range(240), key=lambda n: f"key-{n % 12}")
    async with running(app):
        rows = await bench.wait_for("out", 240)
    for n in range(12):
        mine = [tuple(map(int, row.value.split())) for row in rows if row.key == f"key-{n}"]
        assert mine == [(value, number + 1) for number, value in enumerate(range(n, 240, 12))]
    assert all(len(numbers) == 1 for numbers in actors.values())
    assert most > 1


async def test_isolated_partitions_have_an_actor_each(bench: Any, running: Any) -> None:
    app = bench.app(partitions=4)
    out = app.topic(bench.name("out"), value_type=int)
    waiting = asyncio.Event()

    @app.agent(app.topic(bench.name("in"), value_type=int), isolated_partitions=True)
    async def work(stream: Any) -> None:
        async for event in stream.events():
            if event.message.partition == 0:
                await waiting.wait()
            await out.send(key=event.key, value=event.value, partition=event.message.partition)
            if event.value == 7:
                raise ValueError("seven")

    bench.create("in", "out", partitions=4)
    for partition in range(4):
        bench.send("in", range(10), partition=partition)
    async with running(app):
        # Partition 0 stands still, the others do not wait for it; no commit happens before it goes on.
        await asyncio.sleep(0.3)
        waiting.set()
        rows = await bench.wait_for("out", 36)
        letters = await bench.wait_for("in-dlt", 4)
    for partition in range(4):
        assert [row.json for row in rows if row.partition == partition] == [n for n in range(10) if n != 7]
    assert [row.json for row in letters] == [7] * 4


async def test_a_stream_keeps_its_operators(bench: Any, running: Any) -> None:
    app = bench.app()
    out, copy = (
        app.topic(bench.name("out"), value_type=str, value_serializer="raw"),
        app.topic(bench.name("copy"), value_type=int),
    )

    def doubled(value: int) -> int:
        return value * 2

    @app.agent(app.topic(bench.name("in"), value_type=int))
    async def work(stream: Any) -> None:
        stream.filter(lambda value: value % 2 == 0)
        stream.echo(copy)
        stream.add_processor(doubled)
        async for number, value in stream.enumerate():
            await out.send(key="k", value=f"{number} {value}")

    bench.create("in", "out", "copy")
    bench.send("in", range(10))
    async with running(app):
        rows = await bench.wait_for("out", 5)
        copies = await bench.wait_for("copy", 5)
    assert [row.value.decode() for row in rows] == ["0 0", "1 4", "2 8", "3 12", "4 16"]
    assert sorted(row.json for row in copies) == [0, 2, 4, 6, 8]


async def test_group_by_and_through_repartition_exactly_once(bench: Any, running: Any) -> None:
    app = bench.app(partitions=3)
    out = app.topic(bench.name("out"), value_type=str, value_serializer="raw")
    counts = app.Table("counts", default=int, partitions=3)

    @app.agent(app.topic(bench.name("in"), value_type=Order))
    async def work(stream: Any) -> None:
        async for event in stream.group_by(Order.item).through(app.topic(bench.name("via"), value_type=Order)).events():
            counts[event.key] += event.value.amount
            if event.value.amount == 13:
                raise ValueError("unlucky")
            await out.send(key=event.key, value=f"{event.key.decode()} {counts[event.key]}")

    bench.create("in", "out", "via", partitions=3)
    values = [{"item": f"item-{n % 5}", "amount": n} for n in range(40)]
    bench.send("in", [*values[:20], "no order", *values[20:]], key=lambda v: str(hash(str(v))))
    async with running(app):
        rows = await bench.wait_for("out", 39)
        letters = await bench.wait_for("via-dlt", 1)
        unread = await bench.wait_for("in-dlt", 1)
    expected = {f"item-{n}": sum(v["amount"] for v in values[n::5] if v["amount"] != 13) for n in range(5)}
    last = {}
    for row in rows:
        item, total = row.value.decode().split()
        last[item] = max(int(total), last.get(item, 0))
    assert last == expected
    assert letters[0].json["amount"] == 13
    assert unread[0].value == b"no order"


async def test_a_key_function_that_raises_makes_a_dead_letter(bench: Any, running: Any) -> None:
    app = bench.app()
    out = app.topic(bench.name("out"), value_type=int)

    def key_of(value: int) -> str:
        if value == 3:
            raise ValueError("no key for three")
        return str(value % 2)

    @app.agent(app.topic(bench.name("in"), value_type=int))
    async def work(stream: Any) -> None:
        async for key, value in stream.group_by(key_of, name="parity").items():
            await out.send(key=key, value=value)

    bench.create("in", "out")
    bench.send("in", range(8))
    async with running(app):
        rows = await bench.wait_for("out", 7)
        letters = await bench.wait_for("in-dlt", 1)
    assert sorted(row.json for row in rows) == [0, 1, 2, 4, 5, 6, 7]
    assert (letters[0].json, dict(letters[0].headers)["dlt-exception-message"]) == (3, b"no key for three")


async def test_sends_keep_headers_partition_timestamp_and_bytes(bench: Any, running: Any) -> None:
    app = bench.app()
    out = app.topic(bench.name("out"), value_type=str, value_serializer="raw")

    @app.agent(app.topic(bench.name("in"), value_type=str, value_serializer="raw"))
    async def work(stream: Any) -> None:
        async for event in stream.events():
            await event.forward(bench.name("undeclared"))
            await event.send(out, value="sent")
            out.send_soon(key=b"soon", value="soon", partition=0)
            await app.send(bench.name("undeclared"), key="app", value={"n": 1})
            await out.send(
                key="all",
                value=None,
                partition=1,
                timestamp=1_700_000_000.5,
                headers=[("a", b"1"), ("a", "2"), ("null", None)],
            )

    bench.create("in", "out", "undeclared", message__timestamp__type="CreateTime")
    bench.send("in", ["x"], key="in", headers=[("trace", b"t-1")])
    async with running(app):
        rows = {row.key: row for row in await bench.wait_for("out", 3)}
        passed = {row.key: row for row in await bench.wait_for("undeclared", 2)}
    assert passed["in"].value == b"x"
    assert passed["in"].headers == [("trace", b"t-1")]
    assert passed["app"].json == {"n": 1}
    assert (rows["in"].value, rows["in"].headers) == (b"sent", [("trace", b"t-1")])
    assert (rows["soon"].value, rows["soon"].partition) == (b"soon", 0)
    assert rows["all"].partition == 1
    assert rows["all"].timestamp == 1_700_000_000_500
    assert rows["all"].headers == [("a", b"1"), ("a", b"2"), ("null", None)]
    assert rows["all"].value is None


@pytest.mark.parametrize("store", ["memory", "rocksdict"])
async def test_a_table_is_a_dictionary_of_its_task_and_its_changelog_says_the_same(
    bench: Any, running: Any, store: str
) -> None:
    app = bench.app(store=store)
    out, table = app.topic(bench.name("out")), app.Table("rows", default=int)
    steps: list[Any] = [
        lambda: table.update({"a": 1, "b": 0}, c=3),
        lambda: [table.pop("a"), table.pop("a", "none"), table.get("a"), "a" in table, "b" in table],
        lambda: table.setdefault("d", 4),
        lambda: table.__delitem__("c"),
        lambda: table.__setitem__("c", 0),  # deleted and then set to something false, in two events and in one
        lambda: (table.__delitem__("d"), table.__setitem__("d", 0)),
        lambda: [sorted(table.keys()), sorted(table.items()), sorted(table.values()), len(table), sorted(table)],
        lambda: [table["missing"], "missing" in table],
        lambda: table.clear(),
        lambda: [len(table), table["b"]],
    ]

    @app.agent(app.topic(bench.name("in"), value_type=int))
    async def work(stream: Any) -> None:
        async for step in stream:
            await out.send(key="k", value=steps[step]())

    bench.create("in", "out")
    bench.send("in", range(len(steps)), partition=0)
    async with running(app):
        rows = [row.json for row in await bench.wait_for("out", len(steps))]
    assert rows[1] == [1, "none", None, False, True]
    assert rows[2] == 4
    assert rows[6] == [["b", "c", "d"], [["b", 0], ["c", 0], ["d", 0]], [0, 0, 0], 3, ["b", "c", "d"]]
    assert rows[7][0] == 0
    assert rows[9] == [0, 0]
    folded: dict[str, Any] = {}
    for row in bench.committed(f"{app.conf.id}-rows-changelog", full_name=True):
        folded[str(row.key)] = row.json
    left = {key for key, value in folded.items() if value is not None}
    assert left <= {'"b"', '"missing"'}, folded  # a default that was asked for may be kept, as in Faust


async def test_a_commit_waits_for_the_events_that_run_and_holds_no_half(bench: Any, running: Any, until: Any) -> None:
    app = bench.app()
    out, released, halves = app.topic(bench.name("out"), value_type=int), asyncio.Event(), []

    @app.agent(app.topic(bench.name("in"), value_type=int), isolated_partitions=True)
    async def work(stream: Any) -> None:
        async for event in stream.events():
            await out.send(key="k", value=event.value)
            if event.message.partition == 0:
                halves.append(event.value)
                event.request_commit()
                await released.wait()
            await out.send(key="k", value=event.value)

    bench.create("in", "out")
    bench.send("in", range(10), partition=1)
    bench.send("in", [99], partition=0)
    async with running(app):
        await until(lambda: halves)
        await asyncio.sleep(0.3)  # six commit intervals: nothing of half an event may show in any of them
        assert all(row.json != 99 for row in await asyncio.to_thread(bench.committed, "out"))
        released.set()
        rows = await bench.wait_for("out", 22)
    assert sorted(row.json for row in rows) == sorted([*range(10), 99] * 2)

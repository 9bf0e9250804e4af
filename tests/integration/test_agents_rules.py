"""What cannot be done exactly once is refused, at start or where it is called, with what to use instead."""

from __future__ import annotations

import asyncio
from typing import Any

import faust
import pytest
from mode.supervisors import CrashingSupervisor

from streamapp.driver.options import adopt
from streamapp.driver.streams.agent import AgentEnded
from streamapp.engine.unit import UnitMisuse
from streamapp.errors import ConfigurationError

pytestmark = pytest.mark.kafka


async def test_everything_refused_is_said_at_start_at_once(bench: Any) -> None:
    app = bench.app(
        stream_publish_on_commit=True,
        table_standby_replicas=1,
        producer_acks=0,
        producer_threaded=True,
        consumer_auto_offset_reset="latest",
        broker_credentials="x",
        Stream=faust.Stream,
        broker_max_poll_interval=7,
    )
    app.GlobalTable("everywhere", default=int)
    app.SetTable("members")
    app.Table("windowed", default=int).tumbling(10.0, expires=60.0)
    app.Table("hopped", default=int).hopping(10.0, 5.0)
    app.Table("clocked", default=int).tumbling(10.0, topic="x").relative_to_now()
    app.Table("ready-made", default=int, window=faust.TumblingWindow(10.0))
    app.Table("elsewhere", store="rocksdb://")
    app.Table("listening", on_changelog_event=print, on_recover=print)
    app.agent(app.channel(), name="in-memory")(lambda stream: None)
    app.agent(app.topic("x"), name="supervised", supervisor_strategy=CrashingSupervisor)(lambda stream: None)
    app.agent(app.topic(pattern="x.*"), name="by-pattern")(lambda stream: None)
    with pytest.raises(ConfigurationError) as refused:
        await app.start()
    said = refused.value.problems
    expected = {
        "stream_publish_on_commit": "with its commit",
        "table_standby_replicas": "STREAMAPP_INSTANCE",
        "producer_acks": "Leave it out",
        "producer_threaded": "from an agent",
        "consumer_auto_offset_reset": "kafka-consumer-groups",
        "broker_credentials": "STREAMAPP_SASL_",
        "App(Stream": "Subclass",
        "broker_max_poll_interval": "Leave it out",
        "everywhere": "Instead: keep a Table, and look",
        "members": "Instead: keep a Table",
        "windowed: expires": "Write grace=",
        "windowed: say": 'topic="payment"',
        "hopped: say": 'topic="payment"',
        "clocked": "Write .relative_to_field(name)",
        "ready-made": "Write .tumbling(",
        "elsewhere": "STREAMAPP_STORE",
        "listening: on_changelog_event": "Instead",
        "listening: on_recover": "Instead",
        "in-memory": "Use a topic",
        "supervised": "Leave it out",
        "by-pattern": "Name them",
    }
    for name, instead in expected.items():
        assert [problem for problem in said if name in problem and instead in problem], f"{name}: {said}"
    assert len(said) == len(expected), "\n".join(said)
    await app.stop()


def test_options_of_faust_become_settings() -> None:
    adopted = adopt(
        {
            "broker": "kafka://a;kafka://b:19092,c",
            "processing_guarantee": faust.types.enums.ProcessingGuarantee.AT_LEAST_ONCE,
            "store": "rocksdb://",
            "broker_commit_interval": 1.5,
            "producer_compression_type": "zstd",
            "topic_partitions": 8,
            "timezone": None,
        },
        {},
    )
    assert adopted.settings == {
        "broker": "a:9092,b:19092,c:9092",
        "processing_guarantee": "at_least_once",
        "store": "rocksdict",
        "compression": "zstd",
        "commit_interval": 1.5,
        "partitions": 8,
    }
    assert adopted.options == {"timezone": None}
    assert not adopted.problems
    assert "confluent" in adopt({"broker": "confluent://a"}, {}).problems[0]
    assert "there is no other store" in adopt({"store": "aerospike://"}, {}).problems[0]


async def test_the_guarantee_stays_ours_and_never_reaches_faust(bench: Any) -> None:
    for guarantee in ("exactly_once", "at_least_once"):
        app = bench.app(processing_guarantee=guarantee)
        assert app.settings.processing_guarantee == guarantee
        assert app.conf.processing_guarantee.value == "at_least_once"
        assert not app.in_transaction


@pytest.mark.parametrize("what", ["join", "left_join", "combine", "concurrent take", "isolated group_by"])
async def test_what_a_stream_cannot_do_ends_the_worker_and_says_so(
    bench: Any, running: Any, until: Any, what: str
) -> None:
    app = bench.app()
    topic = app.topic(bench.name("in"), value_type=int)

    async def agent(stream: Any) -> None:
        if what == "concurrent take":
            async for _ in stream.take(10, within=1):
                pass
        elif what == "isolated group_by":
            stream.group_by(str, name="s")
        elif what == "combine":
            stream & topic.stream()
        else:
            getattr(stream, what)()

    app.agent(
        topic,
        concurrency=2 if what == "concurrent take" else 1,
        isolated_partitions=what == "isolated group_by",
        name="tries",
    )(agent)
    bench.create("in")
    with pytest.raises(ConfigurationError) as refused:
        async with running(app, owned=False):
            await until(lambda: app.failure is not None)
    instead = {"concurrent take": "Leave concurrency out", "isolated group_by": "Leave isolated_partitions out"}
    assert instead.get(what, "Keep one side in a table") in str(refused.value)


async def test_misuse_inside_an_event_raises_instead_of_waiting_for_ever(bench: Any, running: Any) -> None:
    app = bench.app()
    topic, out = app.topic(bench.name("in"), value_type=int), app.topic(bench.name("out"), value_type=str)
    leaked: list[Any] = []

    @app.agent(topic)
    async def misuses(stream: Any) -> None:
        async for value in stream:
            match value:
                case 0:
                    await (await out.send(value="x"))
                case 1:
                    await misuses.ask(5)
                case 2:
                    stream.noack()
                case 3:
                    await app.commit()
                case 4:
                    await out.send(value="x", callback=print)
                case 5:
                    app.topic(bench.name("nobody-knows")).send_soon(value="x")
                case 6:
                    await out.send(value="x", partition=99)
                case 7:
                    await app.send(bench.name("missing"), value="x")
                case 8:
                    leaked.append(asyncio.create_task(late()))
                case 9:
                    async for _ in misuses.map([1]):
                        pass
                case 10:
                    await out.send(value="x" * 2_000_000)

    released = asyncio.Event()
    late_errors: list[UnitMisuse] = []

    async def late() -> None:
        await released.wait()
        try:
            await out.send(value="late")
        except UnitMisuse as exc:
            late_errors.append(exc)

    bench.create("in", "out")
    bench.send("in", range(11), partition=0)
    async with running(app):
        letters = await bench.wait_for("in-dlt", 10)
        released.set()
        await asyncio.gather(*leaked)
    said = {row.json: dict(row.headers)["dlt-exception-message"].decode() for row in letters}
    expected = {
        0: "would wait for its own commit",
        1: "reply_to=topic",
        2: "noack() has no meaning",
        3: "request_commit()",
        4: "after_commit",
        5: "`await` send() instead",
        6: "has no partition 99",
        7: "create it first",
        9: "reply_to=topic",
        10: "max.message.bytes",
    }
    assert said.keys() == expected.keys()
    for value, part in expected.items():
        assert part in said[value], said[value]
    assert "this event is over" in str(late_errors[0])
    assert bench.committed("out") == []


async def test_sends_and_tables_outside_of_any_event_raise(bench: Any, running: Any) -> None:
    app = bench.app()
    out, table = app.topic(bench.name("out")), app.Table("rows", default=int)
    errors: list[BaseException] = []

    @app.agent(app.topic(bench.name("in")))
    async def idle(stream: Any) -> None:
        async for _ in stream:
            pass

    bench.create("in", "out")
    async with running(app):
        for attempt in (
            lambda: out.send(value=1),
            lambda: idle.send(value=1),
            lambda: idle.ask(value=1),
            lambda: asyncio.to_thread(lambda: None) if table["x"] else None,
            lambda: table.update(x=1),
            lambda: out.send_soon(value=1),
        ):
            try:
                await attempt()  # type: ignore[misc]
            except UnitMisuse as exc:
                errors.append(exc)
        assert len(errors) == 6
    assert all("event" in str(error) for error in errors)


@pytest.mark.parametrize("how", ["raises", "returns"])
async def test_an_agent_without_an_event_to_blame_ends_the_worker(
    bench: Any, running: Any, until: Any, how: str
) -> None:
    app = bench.app()

    @app.agent(app.topic(bench.name("in")))
    async def broken(stream: Any) -> None:
        if how == "raises":
            raise OSError("the database is away")

    bench.create("in")
    with pytest.raises(AgentEnded) as ended:
        async with running(app, owned=False):
            await until(lambda: app.failure is not None)
    assert "broken" in str(ended.value)
    assert {"raises": "the database is away", "returns": "without taking an event"}[how] in str(ended.value)

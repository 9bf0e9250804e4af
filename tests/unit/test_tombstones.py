"""A value that is None is a null value, Kafka's tombstone, however it is sent, and an agent can be given one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from streamapp.app import App
from streamapp.eos.partitioner import partition_of
from streamapp.settings import load
from streamapp.testing import Bench

NINE = "2026-03-01T09:00:00Z"

SHOP = """
    from typing import ClassVar

    import faust
    import msgspec

    from streamapp import App, after_commit, inbox
    from streamapp.windows import Count

    app = App("tombs")

    class Order(msgspec.Struct, frozen=True):
        KEY: ClassVar[str] = "customer"
        customer: str
        cents: int
        occurred_at: str

    class Line(faust.Record):
        cents: int

    plain = app.topic("plain")
    typed = app.topic("typed", value_type=Order)
    models = app.topic("models", value_type=Line)
    raw = app.topic("raw", value_serializer="raw")
    kept = app.Table("kept").upsert_to(app.topic("kept-now"))
    seen = app.Table("seen")
    minutes = app.Table("minutes").tumbling(60, topic="taken").aggregate(count=Count())

    @after_commit.handler
    async def note(payload):
        await plain.send(key="after", value=payload)

    @app.agent(app.topic("order"))
    async def act(stream):
        async for event in stream.events():
            match event.value:
                case "send":
                    for topic in (plain, typed, models, raw):
                        await topic.send(key="k", value=None)
                case "soon":
                    for topic in (plain, typed, models, raw):
                        topic.send_soon(key="k", value=None)
                case "form":
                    for topic in (plain, typed, models, raw):
                        await topic.send(key="k", value=None, headers={"why": "gone"})
                        await topic.send(key="k", value=None, value_serializer="json")
                case "agent":
                    await take_plain.send(key="k", value=None)
                    await take_plain.cast(None, key="k")
                case "event":
                    await event.send(plain, key="k", value=None)
                    await event.forward(typed, key="k", value=None)
                case "after": after_commit(note, None)
                case "own": await app.topic("taken").send(key="k", value=None)
                case "not-own": await app.topic("refused").send(key="k", value=None)
                case "text": await plain.send(key="k", value=b"null")
                case "row":
                    kept["k"] = 1
                    del kept["k"]
                    kept["none"] = None

    @app.agent(app.topic("nothing", allow_empty=True))
    async def pass_on(stream):
        async for event in stream.events():
            await event.forward(plain)

    @app.agent(app.topic("to-group"))
    async def grouped(stream):
        async for key, value in stream.group_by(lambda value: "new", name="by").through(plain).items():
            seen[key] = repr(value)

    @app.agent(app.topic("for-cast"))
    async def take_plain(stream):
        async for key, value in stream.items():
            seen[key] = repr(value)

    @app.agent(app.topic("taken", value_type=Order, allow_empty=True))
    async def take(stream):
        async for key, order in stream.items():
            if order is not None:
                minutes.add(order.customer, order)
            seen[key] = repr(order and order.cents)

    @app.agent(app.topic("taken-models", value_type=Line, allow_empty=True))
    async def take_models(stream):
        async for key, line in stream.items():
            seen[key] = repr(line and line.cents)

    @app.agent(app.topic("refused", value_type=Order))
    async def refuse(stream):
        async for order in stream: ...

    @app.agent(app.topic("marked", value_type=Order, allow_empty=True))
    @inbox(aggregate_type="ORDER", event_type="ORDER_TAKE", event_id="customer")
    async def mark(stream):
        async for order in stream:
            seen["marked"] = order.cents
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Bench]]:
    (tmp_path / "tombs.py").write_text(dedent(SHOP))
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda: Bench("tombs", partitions=2)
    sys.modules.pop("tombs", None)


@pytest.mark.parametrize(
    ("way", "topics", "count"),
    [
        ("send", ["plain", "typed", "models", "raw"], 1),
        ("soon", ["plain", "typed", "models", "raw"], 1),
        ("form", ["plain", "typed", "models", "raw"], 2),
        ("agent", ["for-cast"], 2),
        ("event", ["plain", "typed"], 1),
        ("after", ["plain"], 1),
    ],
)
def test_none_is_sent_as_a_null_value(shop: Any, way: str, topics: list[str], count: int) -> None:
    with shop() as app:
        app.feed("order", way, key="x")
        for topic in topics:
            records = app.records(topic)
            assert [(record.value, record.is_tombstone) for record in records] == [(None, True)] * count, topic
        assert app.dead_letters("order") == []


def test_the_kit_tells_a_null_value_from_the_text_null(shop: Any) -> None:
    with shop() as app:
        app.feed("order", "text", "send", key="x")
        assert [(record.value, record.is_tombstone) for record in app.records("plain")] == [(None, False), (None, True)]


def test_the_upsert_of_a_row_that_is_deleted_or_none_is_a_null_value(shop: Any) -> None:
    with shop() as app:
        app.feed("order", "row", key="x")
        records = sorted(app.records("kept-now"), key=lambda record: record.key)
        assert [(record.value, record.is_tombstone) for record in records] == [(1, False), (None, True), (None, True)]
        assert app.table("kept") == {"none": None}


def test_a_null_value_stays_one_when_it_is_passed_on(shop: Any) -> None:
    with shop() as app:
        app.feed("nothing", None, key="k")
        app.feed("to-group", None, key="k")
        assert [record.is_tombstone for record in app.records("plain")] == [True, True]
        assert app.table("seen") == {b"k": "None", b"new": "None"}


@pytest.mark.parametrize("topic", ["taken", "taken-models"])
def test_allow_empty_hands_none_on(shop: Any, topic: str) -> None:
    with shop() as app:
        app.feed(topic, {"customer": "a", "cents": 5}, key="a", at=NINE)
        app.feed(topic, None, key="b")
        assert sorted(app.table("seen").values()) == ["5", "None"]
        assert app.dead_letters(topic) == []
        assert sorted(app.table("minutes")) == (["a"] if topic == "taken" else [])


def test_a_null_value_without_a_key_says_nothing(shop: Any) -> None:
    with shop() as app:
        app.feed("taken", None)
        app.feed("taken", None, key="b", partition=1 - partition_of(b"b", 2))
        assert {letter.kind for letter in app.dead_letters("taken")} == {"KeyMismatch", "WrongPartition"}
        assert all(letter.is_tombstone for letter in app.dead_letters("taken"))


def test_without_allow_empty_it_is_a_dead_letter(shop: Any) -> None:
    with shop() as app:
        app.feed("refused", None, key="k")
        assert [(letter.kind, letter.is_tombstone) for letter in app.dead_letters("refused")] == [
            ("MalformedRecord", True)
        ]


def test_what_an_agent_of_the_same_app_does_not_take_is_refused_where_it_is_sent(shop: Any) -> None:
    with shop() as app:
        app.feed("order", "own", "not-own", key="x")
        assert app.table("seen") == {"k": "None"}
        assert [(letter.value, letter.kind) for letter in app.dead_letters("order")] == [
            ("not-own", "OutputNotAccepted")
        ]
        assert app.records("refused") == []


def test_a_null_value_has_no_event_id(shop: Any) -> None:
    with shop() as app:
        app.feed("marked", None, {"customer": "a", "cents": 5}, key="a", at=NINE)
        (letter,) = app.dead_letters("marked")
        assert (letter.kind, letter.is_tombstone) == ("InvalidRecord", True)
        assert "the value is null" in letter.reason and "@inbox" in letter.reason
        assert app.table("seen") == {"marked": 5}


async def test_a_test_context_keeps_none_and_the_text_apart() -> None:
    app = App(settings=load(id="contexts"))
    out = app.topic("out")

    @app.agent(app.topic("in"))
    async def act(stream: Any) -> None:
        async for value in stream:
            await out.send(key="k", value=value)
            await out.send(key="k", value=b"null")

    async with act.test_context() as context:
        await context.put(None)
    assert app.outputs is not None
    assert app.outputs.of("out") == [None, b"null"]

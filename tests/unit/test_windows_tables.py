"""Windowed tables and upserts without a broker: `agent.test_context()`, rows in the app's memory."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import faust
import msgspec
import pytest

from streamapp import App
from streamapp.errors import ConfigurationError, RecordError
from streamapp.settings import load
from streamapp.windows import Collect, Count, Last, Sum

BOUND_S = 10


class Order(msgspec.Struct, frozen=True):
    event_id: str
    occurred_at: str
    shop: str
    amount: int


class Total(msgspec.Struct, frozen=True):
    KEY: ClassVar[str] = "shop"
    shop: str
    window_start: str
    window_end: str
    count: int
    amount: int
    revision: int
    final: bool


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> App:
    monkeypatch.chdir(tmp_path)
    return App(settings=load(id="shop"), autodiscover=False)


def at(second: float, amount: int = 1, shop: str = "a") -> Order:
    minute, rest = divmod(second, 60)
    return Order("1", f"2026-01-01T00:{int(minute):02}:{rest:06.3f}Z", shop, amount)


def adding(app: App, table: Any, wanted: Any = lambda order: True) -> Any:
    """An agent that adds the orders it wants."""

    @app.agent(app.topic("order", value_type=Order))
    async def add(stream: Any) -> Any:
        async for order in stream:
            if wanted(order):
                table.add(order.shop, order)
            yield order

    return add


async def put(agent: Any, *orders: Order) -> None:
    async with agent.test_context() as context:
        for order in orders:
            async with asyncio.timeout(BOUND_S):
                await context.put(order, key=order.shop)


def totals(app: App, **options: Any) -> Any:
    return (
        app.Table("totals")
        .tumbling(60, grace=10, topic="order")
        .aggregate(count=Count(), amount=Sum("amount"))
        .upsert_to(app.topic("order-totals", value_type=Total), **options)
    )


def sent(app: App, topic: str = "order-totals") -> list[tuple[Any, ...]]:
    """(key, count, amount, revision, final) of the upserts."""
    assert app.outputs is not None
    return [(it.key, it.value.count, it.value.amount, it.value.revision, it.value.final) for it in app.outputs]


async def test_every_change_is_upserted_and_the_final_comes_with_the_record_that_closes_the_window(app: App) -> None:
    await put(adding(app, totals(app)), at(5, 10), at(59.999, 5), at(60, 7), at(8, 1), at(70, 2))
    first, second = "a|2026-01-01T00:00:00Z", "a|2026-01-01T00:01:00Z"
    assert sent(app) == [
        (first, 1, 10, 1, False),
        (first, 2, 15, 2, False),
        (second, 1, 7, 1, False),
        (first, 3, 16, 3, False),
        (first, 3, 16, 4, True),
        (second, 2, 9, 2, False),
    ]
    assert app.outputs is not None
    upsert = app.outputs[-1].value
    assert (upsert.shop, upsert.window_start, upsert.window_end) == (
        "a",
        "2026-01-01T00:01:00Z",
        "2026-01-01T00:02:00Z",
    )


async def test_what_the_agent_does_not_add_moves_the_watermark_all_the_same(app: App) -> None:
    table = totals(app, final_only=True)
    await put(adding(app, table, lambda order: order.amount > 0), at(5, 10), at(75, 0))
    assert sent(app) == [("a|2026-01-01T00:00:00Z", 1, 10, 1, True)]


async def test_an_expired_record_goes_to_the_late_topic_as_it_came_and_once(app: App) -> None:
    table = app.Table("spend").hopping(60, 20, topic="order").aggregate(count=Count())
    late = at(25)
    await put(adding(app, table), at(70), late)
    assert app.outputs is not None
    assert [(it.topic, it.key, it.value) for it in app.outputs] == [("order-late", "a", late)]
    with_late = [(window.start // 1000 % 3600, window.value) for window in table.windows("a")]
    assert with_late == [(20, {"count": 2}), (40, {"count": 1}), (60, {"count": 1})]


async def test_windows_are_read_open_and_closed(app: App) -> None:
    table = app.Table("t").tumbling(60, topic="order", retention=100).aggregate(last=Last("amount"))
    await put(adding(app, table), at(5, 10), at(65, 7), at(3, 9, "b"))
    (closed, opened) = table.windows("a")
    assert (closed.final, closed.value, opened.final, opened.value) == (True, {"last": 10}, False, {"last": 7})
    assert [(key, window.final) for key, window in table.items()] == [("a", True), ("a", False)]
    await put(adding(app, table), at(200, 1))
    assert [window.value for window in table.windows("a")] == [{"last": 7}, {"last": 1}]


async def test_a_silence_closes_what_has_begun(app: App) -> None:
    table = totals(app, final_only=True)
    await put(adding(app, table), at(5, 10), at(65, 7))
    table.silence()
    assert [(key, final) for key, *_, final in sent(app)] == [
        ("a|2026-01-01T00:00:00Z", True),
        ("a|2026-01-01T00:01:00Z", True),
    ]
    await put(adding(app, table), at(66, 7))
    assert app.outputs is not None
    assert app.outputs[-1].topic == "order-late"


async def test_fausts_way_changes_every_window_of_the_event(app: App) -> None:
    table = app.Table("hits", default=int).hopping(60, 30, topic="order")
    seen = []

    @app.agent(app.topic("order", value_type=Order))
    async def count(stream: Any) -> Any:
        async for order in stream:
            table[order.shop] += order.amount
            seen.append((table[order.shop].current(), table[order.shop].value(), table[order.shop].delta(30)))
            yield order

    await put(count, at(5, 10), at(35, 1), at(65, 100), at(66, 1000, "b"))
    assert seen == [(10, 10, 10), (1, 1, 11), (100, 100, 101), (1000, 1000, 1000)]
    assert [window.value for window in table.windows("a") if not window.final] == [101, 100]


async def test_windows_can_be_relative_to_another_field(app: App) -> None:
    class Paid(faust.Record, serializer="json"):
        paid_at: str

    table = app.Table("t").tumbling(60, topic="paid").relative_to_field(Paid.paid_at).aggregate(count=Count())

    @app.agent(app.topic("paid", value_type=Paid))
    async def count(stream: Any) -> Any:
        async for paid in stream:
            table.add("all", paid)
            yield paid

    async with count.test_context() as context:
        await context.put(Paid(paid_at="2100-02-28T23:59:59Z"))
    ((start, end, value, *_),) = table.windows("all")
    assert (start, end, value) == (4_107_542_340_000, 4_107_542_400_000, {"count": 1})


async def test_a_record_windows_cannot_use_is_the_agents_error_and_changes_nothing(app: App) -> None:
    table = app.Table("t").tumbling(60, topic="order").aggregate(all=Collect("amount", most=1), count=Count())
    await put(adding(app, table), at(5))
    with pytest.raises(RecordError, match="windows begin in 1970"):
        await put(adding(app, table, lambda order: False), Order("1", "1969-12-31T23:59:59Z", "a", 1))
    with pytest.raises(RecordError, match="collected 1 values"):
        await put(adding(app, table), at(6))
    ((*_, value, _, _),) = table.windows("a")
    assert value == {"all": [1], "count": 1}


async def test_windows_of_one_test_are_not_the_next_ones(app: App) -> None:
    table = totals(app)
    await put(adding(app, table), at(5))
    app.forget_tests()
    assert table.windows("a") == []


async def test_upserts_without_a_record_type_are_objects(app: App) -> None:
    table = app.Table("t", default=int).tumbling(60, topic="order").upsert_to(app.topic("totals"), key_field="shop")

    @app.agent(app.topic("order", value_type=Order))
    async def count(stream: Any) -> Any:
        async for order in stream:
            table[order.shop] += order.amount
            yield order

    await put(count, at(5, 7))
    assert app.outputs is not None
    assert app.outputs.of("totals") == [
        {
            "shop": "a",
            "window_start": "2026-01-01T00:00:00Z",
            "window_end": "2026-01-01T00:01:00Z",
            "value": 7,
            "revision": 1,
            "final": False,
        }
    ]


async def test_a_plain_table_upserts_each_row_and_deletes_with_a_tombstone(app: App) -> None:
    table = app.Table("rows").upsert_to(app.topic("rows-now"))

    @app.agent(app.topic("order", value_type=Order))
    async def keep(stream: Any) -> Any:
        async for order in stream:
            if order.amount:
                table[order.shop] = order.amount
            else:
                del table[order.shop]
            yield order

    await put(keep, at(5, 7), at(6, 8), at(7, 0))
    assert app.outputs is not None
    assert [(it.topic, it.key, it.value) for it in app.outputs] == [
        ("rows-now", "a", 7),
        ("rows-now", "a", 8),
        ("rows-now", "a", None),
    ]


def problems(app: App) -> list[str]:
    return [*app.refusals, *(it for table in app.windowed_tables for it in table.problems(()))]


@pytest.mark.parametrize(
    ("declare", "instead"),
    [
        (lambda table: table.tumbling(60), 'topic="payment"'),
        (lambda table: table.tumbling(60, expires=60, topic="x"), "Write grace="),
        (lambda table: table.hopping(60, 20, key_index=True, topic="x"), "items() works"),
        (lambda table: table.using_window(faust.TumblingWindow(10)), ".tumbling(size"),
        (lambda table: table.tumbling(60, topic="x").relative_to_now(), ".relative_to_field(name)"),
        (lambda table: table.tumbling(60, topic="x").relative_to_stream(), ".relative_to_field(name)"),
        (lambda table: table.tumbling(60, topic="x").relative_to(lambda it: 0.0), ".relative_to_field(name)"),
    ],
)
def test_what_means_something_broken_in_faust_is_refused_with_what_to_write(
    app: App, declare: Any, instead: str
) -> None:
    declare(app.Table("t", default=int))
    (problem,) = problems(app)
    assert problem.startswith("Table t: ")
    assert instead in problem


def test_the_close_callback_of_faust_is_refused_with_what_to_write(app: App) -> None:
    app.Table("t", on_window_close=print)
    (problem,) = problems(app)
    assert "final_only=True" in problem


def test_a_record_type_must_have_the_fields_of_its_windows(app: App) -> None:
    table = app.Table("t").tumbling(60, topic="order").aggregate(count=Count(), mean=Sum("amount"))
    table.upsert_to(app.topic("order-totals", value_type=Total))
    (problem,) = problems(app)
    assert "lacks mean" in problem
    assert "called amount" in problem


def test_an_aggregate_must_not_be_called_like_a_field_of_the_window(app: App) -> None:
    app.Table("t").tumbling(60, topic="order").aggregate(final=Count()).upsert_to(app.topic("totals"))
    (problem,) = problems(app)
    assert "a field final already" in problem


@pytest.mark.parametrize("size", [0.0001, -1, 0])
def test_sizes_that_cannot_be_are_refused_where_they_are_written(app: App, size: float) -> None:
    with pytest.raises(ConfigurationError):
        app.Table("t").tumbling(size, topic="order")


async def test_a_worker_refuses_to_start_with_what_windows_cannot_do(app: App) -> None:
    app.Table("t").tumbling(60, topic="order").aggregate(count=Count())

    @app.agent(app.topic("order", value_type=Order), concurrency=2)
    async def add(stream: Any) -> None:
        async for _ in stream:
            pass

    with pytest.raises(ConfigurationError, match="Leave concurrency out"):
        await app.start()
    await app.stop()


async def test_add_needs_to_know_what_to_keep_and_apply_that_nothing_is(app: App) -> None:
    bare = app.Table("bare", default=int).tumbling(60, topic="order")
    with pytest.raises(ConfigurationError, match=r"\.aggregate\(count=Count\(\)\)"):
        bare.add("a", at(1))
    with pytest.raises(ConfigurationError, match=r"write totals\.add\(key, record\)"):
        totals(app)["a"] += 1

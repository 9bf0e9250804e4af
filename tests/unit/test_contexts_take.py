"""`take()` without a broker: `agent.test_context()` hands batches over as a worker does."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from streamapp import App, inbox
from streamapp.delivery.inbox import InboxStatus
from streamapp.settings import load

BOUND_S = 10
RULE: dict[str, Any] = {"aggregate_type": "ORDER", "event_type": "ORDER_BOOK"}


class Order(msgspec.Struct, frozen=True):
    event_id: str
    amount: int


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> App:
    monkeypatch.chdir(tmp_path)
    return App(settings=load(id="shop"), autodiscover=False)


async def put_all(context: Any, values: list[Any]) -> None:
    """Put the values at once, and wait for the first result after the last of them."""
    async with asyncio.timeout(BOUND_S):
        for value in values[:-1]:
            await context.put(value, key="alice", wait=False)
        await context.put(values[-1], key="alice")


async def test_a_batch_is_handed_over_when_it_is_full_and_else_when_a_commit_is_due(app: App) -> None:
    total = app.Table("total", default=int)

    @app.agent(app.topic("order", value_type=Order))
    async def book(stream: Any) -> Any:
        async for batch in stream.take(3, within=1):
            total["all"] += sum(order.amount for order in batch)
            yield [order.amount for order in batch]

    async with book.test_context() as context:
        await put_all(context, [Order(str(n), n) for n in range(3)])
        assert context.results == {0: [0, 1, 2]}
        await put_all(context, [Order("8", 8)])  # nothing fills it up
        assert context.results == {0: [0, 1, 2], 1: [8]}
    assert total["all"] == 11


@pytest.mark.parametrize("how", ["take_events", "take_with_timestamp"])
async def test_the_other_kinds_of_take(app: App, how: str) -> None:
    @app.agent(app.topic("order"))
    async def book(stream: Any) -> Any:
        batches = stream.take_events(2) if how == "take_events" else stream.take_with_timestamp(2, 1, "at")
        async for batch in batches:
            yield [each.value["n"] if how == "take_events" else (each["n"], each["at"] > 0) for each in batch]

    async with book.test_context() as context:
        await put_all(context, [{"n": 1}, {"n": 2}])
        assert context.results == {0: [1, 2] if how == "take_events" else [(1, True), (2, True)]}


async def test_an_agent_that_yields_nothing_takes_batches_too(app: App) -> None:
    seen, done = [], asyncio.Event()

    @app.agent(app.topic("order", value_type=Order))
    async def book(stream: Any) -> None:
        async for batch in stream.take(2, within=1):
            seen.append([order.amount for order in batch])
            done.set()

    async with book.test_context() as context:
        await put_all(context, [Order("1", 1), Order("2", 2)])
        async with asyncio.timeout(BOUND_S):
            await done.wait()
    assert seen == [[1, 2]]


async def test_an_inbox_on_batches_drops_repeats_of_this_batch_and_of_earlier_ones(app: App) -> None:
    seen = []

    @app.agent(app.topic("order", value_type=Order))
    @inbox(**RULE)
    async def book(stream: Any) -> Any:
        async for batch in stream.take(4, within=1):
            seen.append([order.event_id for order in batch])
            yield len(batch)

    async with book.test_context() as context:
        await put_all(context, [Order("1", 1), Order("2", 2), Order("1", 1), Order("3", 3)])
        await put_all(context, [Order("1", 1), Order("2", 2), Order("2", 2), Order("3", 3)])
        await put_all(context, [Order("1", 1), Order("4", 4), Order("2", 2), Order("5", 5)])
    assert seen == [["1", "2", "3"], ["4", "5"]]
    table: Any = app.tables["inbox"]
    assert {table[book.name, "alice", str(n)].status for n in range(1, 6)} == {InboxStatus.PROCESSED}
    assert {table[book.name, "alice", str(n)].attempts for n in range(1, 6)} == {1}


async def test_a_batch_that_failed_runs_again(app: App) -> None:
    attempts = []

    @app.agent(app.topic("order", value_type=Order))
    @inbox(**RULE)
    async def book(stream: Any) -> Any:
        async for batch in stream.take(2, within=1):
            attempts.append(len(batch))
            if len(attempts) == 1:
                raise ArithmeticError("not today")
            yield len(batch)

    table: Any = app.tables["inbox"]
    with pytest.raises(ArithmeticError):
        async with book.test_context() as context:
            await put_all(context, [Order("1", 1), Order("2", 2)])
    assert table[book.name, "alice", "2"].status is InboxStatus.FAILED
    async with book.test_context() as context:
        await put_all(context, [Order("1", 1), Order("2", 2)])
    assert (table[book.name, "alice", "2"].status, table[book.name, "alice", "2"].attempts) == (
        InboxStatus.PROCESSED,
        2,
    )
    assert attempts == [2, 2]


async def test_asking_for_a_commit_is_possible_and_means_nothing(app: App) -> None:
    @app.agent(app.topic("order", value_type=Order))
    async def book(stream: Any) -> Any:
        async for event in stream.events():
            event.request_commit()
            yield event.value.amount

    async with book.test_context() as context:
        await put_all(context, [Order("1", 1)])
        assert context.results == {0: 1}

"""`@inbox` without a broker: `agent.test_context()`, marks in the app's memory."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from streamapp import App, inbox
from streamapp.delivery.inbox import InboxStatus
from streamapp.errors import ConfigurationError, RecordError
from streamapp.settings import load

BOUND_S = 10


class Order(msgspec.Struct, frozen=True):
    event_id: str
    amount: int
    buyer: str = "bob"


RULE: dict[str, Any] = {"aggregate_type": "ORDER", "event_type": "ORDER_BOOK"}


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> App:
    monkeypatch.chdir(tmp_path)
    return App(settings=load(id="shop"), autodiscover=False)


async def put(context: Any, value: Any, key: str = "alice") -> None:
    async with asyncio.timeout(BOUND_S):
        await context.put(value, key=key)


async def test_a_repeat_does_not_reach_the_agent(app: App) -> None:
    seen = []

    @app.agent(app.topic("order", value_type=Order))
    @inbox(**RULE)
    async def book(stream: Any) -> Any:
        async for order in stream:
            seen.append(order.amount)
            yield order.amount

    async with book.test_context() as context:
        await put(context, Order("1", 5))
        await put(context, Order("1", 5))
        await put(context, Order("2", 6))
        await put(context, Order("1", 5), key="carol")  # the same id under another key is another event
    assert seen == [5, 6, 5]


async def test_marks_outlive_a_context_but_not_the_app(app: App) -> None:
    seen = []

    @app.agent(app.topic("order", value_type=Order))
    @inbox(**RULE)
    async def book(stream: Any) -> Any:
        async for order in stream:
            seen.append(order)
            yield order

    for _ in range(2):
        async with book.test_context() as context:
            await put(context, Order("1", 5))
            await put(context, Order("2", 5))
    assert len(seen) == 2
    table: Any = app.tables["inbox"]
    assert table[book.name, "alice", "1"].status is InboxStatus.PROCESSED


async def test_other_content_is_a_conflict_and_the_first_one_stands(app: App) -> None:
    seen = []

    @app.agent(app.topic("order", value_type=Order))
    @inbox(**RULE)
    async def book(stream: Any) -> Any:
        async for order in stream:
            seen.append(order.amount)
            yield order

    with pytest.raises(RecordError, match="has processed another event") as caught:
        async with book.test_context() as context:
            await put(context, Order("1", 5))
            await put(context, Order("1", 6))
    assert caught.value.kind == "EventIdConflict"
    assert seen == [5]


async def test_an_event_that_failed_runs_again(app: App) -> None:
    attempts = []

    @app.agent(app.topic("order", value_type=Order))
    @inbox(**RULE)
    async def book(stream: Any) -> Any:
        async for order in stream:
            attempts.append(order)
            if len(attempts) < 3:
                raise ArithmeticError("not today")
            yield order

    table: Any = app.tables["inbox"]
    for attempt in (1, 2):
        with pytest.raises(ArithmeticError):
            async with book.test_context() as context:
                await put(context, Order("1", 5))
        mark = table[book.name, "alice", "1"]
        assert (mark.status, mark.attempts) == (InboxStatus.FAILED, attempt)
    async with book.test_context() as context:
        await put(context, Order("1", 5))
        await put(context, Order("1", 5))
    mark = table[book.name, "alice", "1"]
    assert (mark.status, mark.attempts) == (InboxStatus.PROCESSED, 3)
    assert len(attempts) == 3


@pytest.mark.parametrize("how", ["items", "events", "plain"])
async def test_inside_an_agent_it_is_the_same(app: App, how: str) -> None:
    seen = []

    @app.agent(app.topic("order", value_type=Order))
    async def book(stream: Any) -> Any:
        guarded = inbox(stream, **RULE, event_id=("event_id", "buyer"))
        values = guarded if how == "plain" else getattr(guarded, how)()
        async for each in values:
            order = {"items": lambda e: e[1], "events": lambda e: e.value, "plain": lambda e: e}[how](each)
            seen.append((order.event_id, order.buyer))
            yield order

    async with book.test_context() as context:
        await put(context, Order("1", 5))
        await put(context, Order("1", 5))
        await put(context, Order("1", 5, "dora"))
    assert seen == [("1", "bob"), ("1", "dora")]


def test_an_app_without_an_inbox_has_no_table_of_marks(app: App) -> None:
    @app.agent(app.topic("order", value_type=Order))
    async def book(stream: Any) -> None:
        async for _ in stream:
            pass

    assert "inbox" not in app.tables


def test_fields_the_record_does_not_have_are_refused_at_declaration(app: App) -> None:
    with pytest.raises(ConfigurationError, match="no field order_id"):

        @app.agent(app.topic("order", value_type=Order))
        @inbox(**RULE, event_id="order_id")
        async def book(stream: Any) -> None:
            async for _ in stream:
                pass


def test_the_decorators_the_wrong_way_round_are_refused(app: App) -> None:
    with pytest.raises(ConfigurationError, match="stands above @inbox"):

        @inbox(**RULE)
        @app.agent(app.topic("order", value_type=Order))
        async def book(stream: Any) -> None:
            async for _ in stream:
                pass


def test_what_take_returns_is_no_stream() -> None:
    with pytest.raises(ConfigurationError, match="give it the stream"):
        inbox([1, 2], **RULE)


def test_importing_the_package_is_cheap_and_reads_no_settings() -> None:
    code = "import sys, streamapp; sys.exit(bool({'faust', 'aiokafka', 'streamapp.settings'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0

"""Agents of every kind for the fuzz of whole workers. Each event says in `seen` that it was processed, and by whom."""

from __future__ import annotations

from typing import Any, ClassVar

import faust
import msgspec

from streamapp import App, inbox
from streamapp.windows import Count, Sum


class Order(msgspec.Struct, frozen=True):
    KEY: ClassVar[str] = "customer"
    order_id: str
    customer: str
    cents: int
    occurred_at: str | None = None


class Visit(msgspec.Struct, frozen=True):
    KEY: ClassVar[str] = "page"
    visit_id: str
    page: str
    weight: int
    occurred_at: str


class Minute(msgspec.Struct, frozen=True):
    KEY: ClassVar[str] = "page"
    page: str
    window_start: str
    window_end: str
    count: int
    weight: int
    revision: int
    final: bool


class Legacy(faust.Record):
    account: str
    points: int


class OddError(Exception):
    """An exception whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


app = App("fuzzed")
seen = app.topic("seen")
echo = app.topic("echo")

spent = app.Table("spent", default=int)
last = app.Table("last", default=None)
counted = app.Table("counted", default=int)
points = app.Table("points", default=int)
totals = app.Table("totals", default=int).upsert_to(app.topic("totals-now"))
by_minute = (
    app.Table("by_minute")
    .tumbling(60, grace=10, topic="windowed")
    .aggregate(count=Count(), weight=Sum("weight"))
    .upsert_to(app.topic("windowed-minutes", value_type=Minute))
)


async def tell(agent: str, event: Any, **facts: Any) -> None:
    """Say that an agent has processed an event, in the event's own transaction."""
    message = event.message
    place = [agent, message.topic, message.partition, message.offset]
    await seen.send(key=f"{message.topic}-{message.partition}-{message.offset}", value={"place": place, **facts})


@app.agent(app.topic("typed-inbox", value_type=Order))
@inbox(aggregate_type="ORDER", event_type="ORDER_ADD_UP", event_id="order_id")
async def typed_inbox(stream: Any) -> None:
    async for event in stream.events():
        spent[event.value.customer] += event.value.cents
        await tell("typed_inbox", event, row=event.value.customer, amount=event.value.cents)


@app.agent(app.topic("typed", value_type=Order))
async def typed(stream: Any) -> None:
    async for event in stream.events():
        order = event.value
        if order.cents % 11 == 3:
            raise ValueError(f"no such customer: {order.customer}")
        if order.cents % 11 == 4:
            raise OddError
        totals[order.customer] += order.cents
        await echo.send(key=order.customer, value={"cents": order.cents})
        await tell("typed", event, row=order.customer, amount=order.cents)


@app.agent(app.topic("untyped-inbox"))
@inbox(aggregate_type="NOTE", event_type="NOTE_KEEP", event_id="id")
async def untyped_inbox(stream: Any) -> None:
    async for event in stream.events():
        await tell("untyped_inbox", event)


@app.agent(app.topic("untyped"))
async def untyped(stream: Any) -> None:
    async for event in stream.events():
        counted[event.key] += 1
        last[event.key] = event.value
        await echo.send(key=event.key, value=event.value)
        if isinstance(event.value, dict) and "raise" in event.value:
            raise KeyError(event.value["raise"])
        await tell("untyped", event)


@app.agent(app.topic("legacy", value_type=Legacy))
async def legacy(stream: Any) -> None:
    async for event in stream.events():
        points[event.value.account] += event.value.points
        await tell("legacy", event, row=event.value.account, amount=event.value.points)


@app.agent(app.topic("windowed", value_type=Visit))
async def windowed(stream: Any) -> None:
    async for event in stream.events():
        by_minute.add(event.value.page, event.value)
        await tell("windowed", event)


@app.agent(app.topic("batched", value_type=Order))
@inbox(aggregate_type="ORDER", event_type="ORDER_BATCH", event_id="order_id")
async def batched(stream: Any) -> None:
    async for events in stream.take_events(7, within=1):
        for event in events:
            if event.value.cents % 11 == 3:
                raise ValueError(event.value.customer)
            await tell("batched", event)


@app.agent(app.topic("raw", value_serializer="raw", key_serializer="raw"))
async def raw(stream: Any) -> None:
    async for event in stream.events():
        counted[event.key] += 1
        await tell("raw", event)


both = app.topic("both")


@app.agent(both)
async def first_of_both(stream: Any) -> None:
    async for event in stream.events():
        await tell("first_of_both", event)


@app.agent(both)
async def second_of_both(stream: Any) -> None:
    async for event in stream.events():
        if isinstance(event.value, dict) and event.value.get("id"):
            raise RuntimeError(event.value["id"])
        await tell("second_of_both", event)

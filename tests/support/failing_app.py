"""Agents that fail in every way that Python has, each for the record that says so."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, ClassVar

import msgspec

from streamapp import App, inbox
from streamapp.errors import ConfigurationError, RecordError


class Order(msgspec.Struct, frozen=True):
    KEY: ClassVar[str] = "customer"
    order_id: str
    customer: str
    cents: int


class Picky(msgspec.Struct, frozen=True):
    """Raises while it is decoded."""

    how: str

    def __post_init__(self) -> None:
        fail(self.how)


class NoText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class ExitingText(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class NoString(Exception):
    def __str__(self) -> Any:  # type: ignore[override]
        return None


class Outright(BaseException):
    pass


class Kindless(RecordError):
    """Its constructor forgets its parent's."""

    def __init__(self) -> None:
        Exception.__init__(self, "kindless")


class Lying(Exception):
    """Says that it is another class."""

    @property
    def __class__(self) -> Any:
        return ConfigurationError

    @__class__.setter
    def __class__(self, _: Any) -> None: ...


class Denying(Exception):
    @property
    def __class__(self) -> Any:
        raise RuntimeError("no class")

    @__class__.setter
    def __class__(self, _: Any) -> None: ...


class Nameless(type):
    def __getattribute__(cls, name: str) -> Any:
        if name in ("__qualname__", "__module__", "__name__"):
            raise RuntimeError("no name")
        return super().__getattribute__(name)


class OfNameless(Exception, metaclass=Nameless):
    pass


def broken_syntax() -> SyntaxError:
    """One that cannot be shown: its text is no text."""
    return SyntaxError("broken", ("file", 1, 1, 7))


OddlyNamed = type("x" * 5000, (Exception,), {"__module__": None})

WAYS: dict[str, Any] = {
    "surrogate": lambda: ValueError("no such city: \ud83d"),
    "long": lambda: ValueError("x" * 3_000_000),
    "nul": lambda: ValueError("\x00\x1b[31m"),
    "no text": NoText,
    "exiting text": ExitingText,
    "no string": NoString,
    "odd name": OddlyNamed,
    "generator exit": GeneratorExit,
    "system exit": lambda: SystemExit(2),
    "outright": Outright,
    "group": lambda: BaseExceptionGroup("both", [SystemExit(1), ValueError("\ud83d")]),
    "cancelled": asyncio.CancelledError,
    "time-out": TimeoutError,
    "stop": StopAsyncIteration,
    "memory": MemoryError,
    "recursion": RecursionError,
    "kindless": Kindless,
    "kind of a number": lambda: RecordError("odd", kind=5),  # type: ignore[arg-type]
    "kind with half a pair": lambda: RecordError("odd", kind="\ud83d"),
    "lying": Lying,
    "denying": Denying,
    "nameless": OfNameless,
    "broken syntax": broken_syntax,
}


def fail(how: str) -> None:
    """Raise what `how` names; nothing for a name that is none."""
    if how in WAYS:
        raise WAYS[how]()


app = App("failing")
spent = app.Table("spent", default=int)
told = app.topic("told")


@app.agent(app.topic("order", value_type=Order))
@inbox(aggregate_type="ORDER", event_type="ORDER_ADD_UP", event_id="order_id")
async def add_up(stream: Any) -> None:
    async for order in stream:
        spent[order.customer] += order.cents


@app.agent(app.topic("picky", value_type=Picky))
async def read_picky(stream: Any) -> None:
    async for picky in stream:
        await told.send(key="picky", value=picky.how)


async def run(how: str) -> None:
    match how:
        case "child":
            job = asyncio.ensure_future(asyncio.sleep(9))
            job.cancel()
            await job
        case "self":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        case "group of tasks":
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(9))
                raise ValueError("one of them")
        case "deep":
            deep(sys.getrecursionlimit())
        case "cleanup":
            try:
                raise ValueError("first")
            finally:
                raise KeyError("\ud83d")
        case _:
            fail(how)


def deep(levels: int) -> int:
    return levels and deep(levels + 1)


@app.agent(app.topic("loose"))
async def read(stream: Any) -> None:
    async for key, value in stream.items():
        spent[key.decode()] += 1
        await told.send(key=key, value="half")
        await run(value["do"])
        await told.send(key=key, value=value["do"])


@app.agent(app.topic("batch"))
async def read_batches(stream: Any) -> None:
    async for values in stream.take(5, within=1):
        for value in values:
            await run(value["do"])
        await told.send(key="batch", value=len(values))


@app.agent(app.topic("filtered"))
async def read_filtered(stream: Any) -> None:
    def checked(value: Any) -> Any:
        fail(value["do"])
        return value

    stream.add_processor(checked)
    async for value in stream:
        await told.send(key="filtered", value=value["do"])


@app.agent(app.topic("untyped"))
@inbox(aggregate_type="NOTE", event_type="NOTE_KEEP", event_id="id")
async def keep(stream: Any) -> None:
    async for _ in stream:
        await told.send(key="note", value=1)

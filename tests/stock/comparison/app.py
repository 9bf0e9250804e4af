"""One program for both engines: `faust -A comparison.app worker`. ENGINE names the engine, SCENARIO the agents.

The agents are the same lines for both. A line in the file PROCESSED says that an event is at its end, or where it
waits; the harness kills the process by it.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

ENGINE, SCENARIO, PREFIX = os.environ["ENGINE"], os.environ["SCENARIO"], os.environ["PREFIX"]
COMMIT_S = float(os.environ["COMMIT_S"])


def _app() -> Any:
    if ENGINE == "ours":  # the rest of its settings is in the environment
        from streamapp.app import App

        return App(autodiscover=False)
    import faust

    return faust.App(
        os.environ["STREAMAPP_ID"],
        broker=f"kafka://{os.environ['STREAMAPP_BROKER']}",
        store="rocksdb://",
        datadir=os.environ["STREAMAPP_DATADIR"],
        processing_guarantee="exactly_once",
        broker_commit_interval=COMMIT_S,
        broker_session_timeout=10.0,
        broker_heartbeat_interval=2.0,
        topic_partitions=2,
        topic_replication_factor=1,
        table_standby_replicas=0 if SCENARIO == "without_tables" else 1,
        consumer_auto_offset_reset="earliest",
        web_enabled=False,
        autodiscover=False,
    )


app = _app()
inputs = app.topic(f"{PREFIX}-in", value_type=int)
outputs = app.topic(f"{PREFIX}-out", value_type=str, value_serializer="raw")


def note(text: object) -> None:
    with Path(os.environ["PROCESSED"]).open("a") as file:
        file.write(f"{text}\n")


def consume_outputs() -> None:
    """Only what an app consumes itself is in stock Faust's transactions: give it the best case."""

    @app.agent(outputs)
    async def sink(stream: Any) -> None:
        async for _ in stream:
            pass


def copy() -> None:
    """An output for each event, to a topic that the app does not consume."""

    @app.agent(inputs)
    async def run(stream: Any) -> None:
        async for value in stream:
            await outputs.send(key=str(value), value=str(value))
            note(value)


def consumed_copy() -> None:
    """The same to a topic that it does consume, as slow as real work."""
    consume_outputs()

    @app.agent(inputs)
    async def run(stream: Any) -> None:
        async for value in stream:
            await asyncio.sleep(0.02)
            await outputs.send(key=str(value), value=str(value))
            note(value)


def repartition() -> None:
    """`group_by`, and an output for each event behind it."""
    consume_outputs()

    @app.agent(inputs)
    async def run(stream: Any) -> None:
        async for value in stream.group_by(lambda value: f"key-{value}", name="spread"):
            await outputs.send(key=str(value), value=str(value))
            note(value)


def dedup() -> None:
    """An event that the table knows is skipped."""
    consume_outputs()
    seen = app.Table("seen", default=bool)

    @app.agent(inputs)
    async def run(stream: Any) -> None:
        async for value in stream:
            if not seen[str(value)]:
                seen[str(value)] = True
                await outputs.send(key=str(value), value=str(value))
            note(value)


def keys() -> None:
    """A row for each event."""
    rows = app.Table("rows", default=int)

    @app.agent(inputs)
    async def run(stream: Any) -> None:
        async for value in stream:
            rows[str(value)] = value
            note(value)


def count() -> None:
    """The running number of all events, from a table."""
    consume_outputs()
    counts = app.Table("counts", default=int)

    @app.agent(inputs)
    async def run(stream: Any) -> None:
        async for value in stream:
            counts["all"] += 1
            await outputs.send(key=str(value), value=f"{value} {counts['all']}")
            note(value)


def halves() -> None:
    """Two outputs for each event; number 2 waits between them."""
    consume_outputs()

    @app.agent(inputs)
    async def run(stream: Any) -> None:
        async for value in stream:
            await outputs.send(key=str(value), value=f"{value}-a")
            if value == 2:
                note("waits")
                await asyncio.sleep(4)  # ours takes an agent that holds a commit up for 6 s for one that hangs
            await outputs.send(key=str(value), value=f"{value}-b")
            note(value)


def raising() -> None:
    """Number 3 raises between its outputs."""
    consume_outputs()

    @app.agent(inputs)
    async def run(stream: Any) -> None:
        async for value in stream:
            await outputs.send(key=str(value), value=f"{value}-a")
            note(value)
            if value == 3:
                raise ArithmeticError("no")
            await outputs.send(key=str(value), value=f"{value}-b")


without_tables = copy
globals()[SCENARIO]()

if os.environ.get("DIES_AT_COMMIT") and ENGINE == "stock":
    # Ours has a crash point there (commit.after_store). The first commit with offsets in it is the one.
    from faust.transport.consumer import TransactionManager

    _commit = TransactionManager.commit

    async def _dying(self: Any, offsets: Any, start_new_transaction: bool = True) -> bool:
        done = await _commit(self, offsets, start_new_transaction)
        if offsets:
            os.kill(os.getpid(), signal.SIGKILL)
        return bool(done)

    TransactionManager.commit = _dying

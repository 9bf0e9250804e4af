"""Streams over a channel in memory (`agent.test_context()`) or any other iterable: in the order of a worker, no commit.

A mark of the inbox says FAILED until the agent asks for the next event or batch, so an agent that raised leaves it so.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

from faust.agents.agent import current_agent
from faust.exceptions import Skip
from faust.streams import _current_event
from faust.types import EventT
from mode.utils.futures import maybe_async


async def values(stream: Any) -> AsyncIterator[Any]:
    """The values of a stream, without the repeats where it has an inbox."""
    async for batch in _batches(stream, 1):
        for _, value in batch:
            yield value


def batches(stream: Any, most: int) -> AsyncIterator[list[tuple[Any, Any]]]:
    """Batches of at most `most` (event, value), handed over when full and otherwise when a commit would be due."""
    return _batches(stream, most)


async def _batches(stream: Any, most: int) -> AsyncIterator[list[tuple[Any, Any]]]:
    stream._finalized = True
    started_here = await stream.maybe_start()
    try:
        async for items in _gathered(stream.channel, most, stream.app.settings.commit_interval):
            admitted = []
            for table in stream.app.windowed_tables:
                table.see_in_memory(items)
            if stream.inbox is not None and isinstance(items[0], EventT):
                admitted = stream.inbox.admit_in_memory(items, getattr(current_agent(), "name", None))
                items = [event for event, _, _ in admitted]
                if not items:
                    await _tell_the_test(current_agent())
                    continue
            batch = await _processed(stream, items)
            if batch:
                stream.events_total += len(batch)
                yield batch
            if admitted:
                stream.inbox.processed_in_memory(admitted)
            _set_current(stream, None)
    finally:
        stream._channel_stop_iteration(stream.channel)
        if started_here:
            await stream.stop()
            stream.service_reset()


async def _gathered(source: AsyncIterable[Any], most: int, within_s: float) -> AsyncIterator[list[Any]]:
    """What comes from `source` in lists of at most `most`; one that is not full waits `within_s` for more."""
    if most == 1:
        async for item in source:
            yield [item]
        return
    items: list[Any] = []
    iterator = aiter(source)
    coming: asyncio.Future[Any] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(iterator))
            await asyncio.wait([coming], timeout=within_s if items else None)
            if coming.done():
                try:
                    items.append(coming.result())
                except StopAsyncIteration:
                    break
                finally:
                    coming = None
                if len(items) < most:
                    continue
            taken, items = items, []
            yield taken
        if items:
            yield items
    finally:
        if coming is not None:
            coming.cancel()


async def _tell_the_test(agent: Any) -> None:
    """A test that waits for the result of a duplicate would wait for ever: there is none."""
    condition = getattr(agent, "new_value_processed", None)
    if condition is not None:
        async with condition:
            condition.notify_all()


async def _processed(stream: Any, items: list[Any]) -> list[tuple[Any, Any]]:
    batch = []
    for item in items:
        event = item if isinstance(item, EventT) else None
        _set_current(stream, event)
        value = item if event is None else event.value
        try:
            for processor in stream._processors:
                value = await maybe_async(processor(value))
        except Skip:
            continue
        batch.append((event, value))
    return batch


def _set_current(stream: Any, event: Any) -> None:
    stream.current_event = event
    _current_event.set(None if event is None else weakref.ref(event))

"""Faust's stream over our tasks: an event is finished when the agent asks for the next one.

The loop is synchronous between two events: the finished one starts its task's next event, which is in the mailbox
before the loop looks.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator
from typing import Any, NoReturn

from faust.exceptions import Skip
from faust.streams import Stream as FaustStream
from faust.streams import _current_event
from faust.types import EventT
from mode.utils.futures import maybe_async

from streamapp.driver.topic import Topic
from streamapp.driver.unit import Unit, UnitMisuse, set_current_unit
from streamapp.errors import ConfigurationError
from streamapp.failpoints import failpoint

#: Events between two turns of the event loop, so that a long backlog starves nobody.
_TURN_EVERY = 256


class Stream(FaustStream):
    """See the module."""

    def __init__(self, channel: Any, **kwargs: Any) -> None:
        super().__init__(channel, **kwargs)
        self._mailbox: Any = None
        if isinstance(self.channel, Topic):
            self._mailbox = self.channel.mailbox(self.concurrency_index or 0)

    def __aiter__(self) -> AsyncIterator[Any]:
        events = self._events() if self._mailbox is not None else self._values()
        self._active_agens.add(events)
        return events

    async def _values(self) -> AsyncIterator[Any]:
        """What comes from a channel in memory or any other iterable: no task, no unit, nothing to commit."""
        self._finalized = True
        started_here = await self.maybe_start()
        try:
            async for item in self.channel:
                event = item if isinstance(item, EventT) else None
                self.current_event = event
                _current_event.set(None if event is None else weakref.ref(event))
                value = item if event is None else event.value
                try:
                    value = await self._processed(value)
                except Skip:
                    continue
                self.events_total += 1
                yield value
                self.current_event = None
        finally:
            self._channel_stop_iteration(self.channel)
            if started_here:
                await self.stop()
                self.service_reset()

    async def _processed(self, value: Any) -> Any:
        for processor in self._processors:
            value = await maybe_async(processor(value))
        return await self.on_merge(value)

    async def _events(self) -> AsyncIterator[Any]:
        self._finalized = True
        started_here = await self.maybe_start()
        mailbox, processors = self._mailbox, self._processors
        joined = self.join_strategy is not None
        items, ref, turn = mailbox.items, weakref.ref, 0
        try:
            while not self.should_stop:
                if not items:
                    turn = 0
                    await mailbox.wait()
                    continue
                turn += 1
                if turn > _TURN_EVERY:
                    turn = 0
                    await asyncio.sleep(0)
                    continue
                unit, event = items.popleft()
                if not unit.live:
                    continue
                set_current_unit(unit)
                _current_event.set(ref(event))
                self.current_event = event
                value = event.value
                if processors or joined:
                    try:
                        value = await self._processed(value)
                    except Skip:
                        self._done(unit)
                        continue
                self.events_total += 1
                failpoint("K1")
                yield value
                self._done(unit)
        finally:
            self._channel_stop_iteration(self.channel)
            if started_here:
                await self.stop()
                self.service_reset()

    def _done(self, unit: Unit) -> None:
        """One of the unit's deliveries is finished; the last one finishes the unit."""
        self.current_event = None
        set_current_unit(None)
        if unit.live:
            unit.pending -= 1
            if not unit.pending:
                unit.task.finish(unit)

    async def take(self, max_: int, within: Any = None) -> AsyncIterator[list[Any]]:
        """Batches of at most `max_` values of one task, each all or nothing.

        A batch is handed over when it is full, and otherwise before each commit, so `within` is never longer than the
        commit interval. One that raises runs again one event at a time.
        """
        async for _, events in self._batches(max_):
            yield [event.value for event in events]

    async def take_events(self, max_: int, within: Any = None) -> AsyncIterator[list[Any]]:
        """As `take`, with the events."""
        async for _, events in self._batches(max_):
            yield events

    async def take_with_timestamp(self, max_: int, within: Any, timestamp_field_name: str) -> AsyncIterator[list[Any]]:
        """As `take`, each value (a dictionary) with its append time in a field."""
        async for _, events in self._batches(max_):
            batch = []
            for event in events:
                event.value[timestamp_field_name] = event.record.timestamp / 1000.0
                batch.append(event.value)
            yield batch

    async def _batches(self, most: int) -> AsyncIterator[tuple[Unit, list[Any]]]:
        if self._mailbox is None:
            raise ConfigurationError("take() needs a topic: this stream is over a channel in memory.")
        if self._processors:
            raise ConfigurationError("take() after filter(), group_by() or through() is not possible: take() first.")
        self.channel.batch = most
        self._finalized = True
        started_here = await self.maybe_start()
        mailbox = self._mailbox
        try:
            while not self.should_stop:
                await mailbox.wait()
                unit, item = mailbox.items.popleft()
                if not unit.live:
                    continue
                events = item if isinstance(item, list) else [item]
                set_current_unit(unit)
                self.current_event = events[-1]
                _current_event.set(weakref.ref(events[-1]))
                yield unit, events
                self._done(unit)
        finally:
            self.channel.batch = 1
            if started_here:
                await self.stop()
                self.service_reset()

    def noack(self) -> NoReturn:
        raise UnitMisuse("noack() has no meaning here: an event is acknowledged by the commit of its own transaction.")

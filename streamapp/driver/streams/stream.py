"""Faust's stream over our tasks: events one by one or in batches, each finished when the agent asks for the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NoReturn

from faust.exceptions import Skip
from faust.streams import Stream as FaustStream
from faust.streams import _current_event, maybe_forward
from faust.types.models import FieldDescriptorT
from mode.utils.futures import maybe_async

from streamapp.driver.streams import test_context as in_memory
from streamapp.driver.streams.cursor import StreamCursor
from streamapp.driver.streams.delivery import DispatchedEvent, values_of
from streamapp.driver.streams.inbox import Inbox
from streamapp.driver.streams.iteration import Iteration
from streamapp.driver.streams.topic import Topic
from streamapp.engine.unit import (
    Unit,
    UnitMisuse,
    clear_current,
    current_unit,
    event_at_hand,
    given_up,
    is_own_failure,
    set_current,
)
from streamapp.eos.partitioner import DEFAULT
from streamapp.errors import ConfigurationError, is_the_events

#: Turns of the event loop between two batches while a commit is in flight: it needs some twenty of them.
_TURNS = 8


class Stream(FaustStream):
    """A stream over the tasks of the engine."""

    def __init__(self, channel: Any, **kwargs: Any) -> None:
        self.hand = StreamCursor()
        super().__init__(channel, **kwargs)
        self._mailbox: Any = None
        #: Asked before an event is handed out; set by `inbox()`.
        self.inbox: Inbox | None = None
        self._source: Repartition | None = None
        if isinstance(self.channel, Topic):
            self._mailbox = self.channel.mailbox(self.concurrency_index or 0)

    @property
    def current_event(self) -> Any:
        """The event the agent has at hand, or None."""
        return _event_of(self.hand.delivery)

    @current_event.setter
    def current_event(self, event: Any) -> None:
        self.hand.delivery = event

    @property
    def events_total(self) -> int:
        """How many events the agent was handed."""
        return self.hand.count

    @events_total.setter
    def events_total(self, count: int) -> None:
        self.hand.count = count

    def __aiter__(self) -> AsyncIterator[Any]:
        if self._mailbox is None:
            return in_memory.values(self)
        return self._processed_values() if self._processors else Iteration(self, self._mailbox)

    async def _processed_values(self) -> AsyncIterator[Any]:
        async for value in Iteration(self, self._mailbox):
            try:
                for processor in self._processors:
                    value = await maybe_async(processor(value))
            except Skip:
                continue
            yield value

    def begin(self) -> Any:
        """An iteration begins: what feeds the topic runs from here on. Returns the task that iterates."""
        self._finalized = True
        _current_event.set(event_at_hand)
        stream: Any = self
        while stream is not None:
            if stream._source is not None:
                stream._source.start(self.app)
            stream = stream._prev
        return asyncio.current_task()

    def _admitted(self, inbox: Inbox, unit: Unit, deliveries: list[Any]) -> list[Any]:
        """Those of a batch that are to run. When there are none the delivery is over: all repeats, or it failed."""
        try:
            fresh = inbox.admit_all(unit, deliveries)
        except BaseException as exc:
            if not is_the_events(exc):
                raise
            self.app.engine.failed(unit, exc)
            return []
        if not fresh:
            unit.done()
        return fresh

    def _done(self, unit: Unit, worker: Any) -> None:
        self.hand.delivery = None
        set_current(None)
        if unit.live:
            unit.left(worker)
            unit.done()

    # --- batches

    async def take(self, max_: int, within: Any = None) -> AsyncIterator[list[Any]]:
        """Batches of at most `max_` values of one task, each all or nothing.

        A batch is handed over when it is full, and otherwise before each commit, so `within` is never longer than the
        commit interval. One that raises runs again one event at a time.
        """
        async for batch in self._batches(max_):
            yield [value for _, value in batch]

    async def take_events(self, max_: int, within: Any = None) -> AsyncIterator[list[Any]]:
        """As `take`, with the events."""
        async for batch in self._batches(max_):
            yield [_event_of(at_hand) for at_hand, _ in batch]

    async def take_with_timestamp(self, max_: int, within: Any, timestamp_field_name: str) -> AsyncIterator[list[Any]]:
        """As `take`, each value (a dictionary) with its append time in a field."""
        async for batch in self._batches(max_):
            for at_hand, value in batch:
                value[timestamp_field_name] = _event_of(at_hand).message.timestamp
            yield [value for _, value in batch]

    async def _batches(self, most: int) -> AsyncIterator[list[tuple[Any, Any]]]:
        if self.concurrency_index is not None:
            raise ConfigurationError(
                "take() with concurrency > 1 would mix the keys of several actors in one batch. "
                "Leave concurrency out, or take events one at a time."
            )
        if self._mailbox is None:
            async for batch in in_memory.batches(self, most):
                yield batch
            return
        worker = self.begin()
        self.channel.take_batches(most)
        mailbox = self._mailbox
        while True:
            await mailbox.wait()
            unit, item = mailbox.items.popleft()
            if not unit.live:
                continue
            deliveries = item if isinstance(item, list) else [item]
            if self.inbox is not None:
                deliveries = self._admitted(self.inbox, unit, deliveries)
                if not deliveries:
                    continue
            set_current(unit)
            unit.workers.append(worker)
            batch = await self._processed(deliveries)
            if batch:
                self.events_total += len(batch)
                self._set_current(deliveries[-1])
                yield batch
            self._done(unit, worker)
            if unit.task.gate.hurried:
                for _ in range(_TURNS):
                    await asyncio.sleep(0)

    async def _processed(self, deliveries: list[Any]) -> list[tuple[Any, Any]]:
        """Those of a batch with their values, without those that a filter skips."""
        if not self._processors:
            return list(zip(deliveries, values_of(deliveries), strict=True))
        batch = []
        for delivery in deliveries:
            self._set_current(delivery)
            value = delivery.value
            try:
                for processor in self._processors:
                    value = await maybe_async(processor(value))
            except Skip:
                continue
            batch.append((delivery, value))
        return batch

    def _set_current(self, delivery: Any) -> None:
        self.hand.delivery = delivery
        set_current(delivery)

    # --- streams made from streams

    def group_by(self, key: Any, *, name: str | None = None, topic: Any = None, partitions: int | None = None) -> Any:
        """Send each event on to a topic by a new key, and go on with that topic's events.

        Both halves are exactly once: the first is a unit of the source's task, the second one of the new key's.
        """
        return self._chained(lambda: super(Stream, self).group_by(key, name=name, topic=topic, partitions=partitions))

    def through(self, channel: Any) -> Any:
        """Send each event on to a topic, and go on with that topic's events."""
        return self._chained(lambda: super(Stream, self).through(channel))

    def _chained(self, chain: Any) -> Any:
        if self._mailbox is None:
            raise ConfigurationError("group_by() and through() need a topic: this stream is over a channel in memory.")
        if self._next is not None:  # the agent was started again; Faust would go on with the source's own events
            return self._next
        if self.active_partitions is not None:
            raise ConfigurationError(
                "group_by() and through() with isolated_partitions would run once for each partition and repeat "
                "every event. Leave isolated_partitions out."
            )
        chained = chain()
        for topic in getattr(chained.channel, "topics", ()):
            declared = self.app.partitioners.get(topic, DEFAULT)
            if declared.hashing != DEFAULT.hashing:
                raise ConfigurationError(
                    f"{topic} is declared with partitioner={declared.name!r}, but group_by() and through() move events "
                    f"into it, which places them by {DEFAULT.name}. Give them a topic without one."
                )
        return chained

    def _enable_passive(self, channel: Any, *, declare: bool = False) -> None:
        self._source = Repartition(self)

    async def _format_key(self, key: Any, value: Any) -> Any:
        # Faust logs what a key function raises and goes on without the event.
        return key.getattr(value) if isinstance(key, FieldDescriptorT) else await maybe_async(key(value))

    def echo(self, *channels: Any) -> Any:
        """Send each value on to these topics as well. Faust would not notice that one of the sends failed."""
        topics = [self.derive_topic(channel) if isinstance(channel, str) else channel for channel in channels]

        async def echoing(value: Any) -> Any:
            for topic in topics:
                await maybe_forward(value, topic)
            return value

        self.add_processor(echoing)
        return self

    async def ack(self, event: Any) -> bool:
        """Nothing: an event is finished when the agent asks for the next one."""
        return True

    def noack(self) -> NoReturn:
        raise UnitMisuse("noack() has no meaning here: an event is acknowledged by the commit of its own transaction.")

    def noack_take(self, max_: int, within: Any = None) -> NoReturn:
        raise UnitMisuse("noack_take() has no meaning here: use take(), whose batch is committed as a whole.")

    def combine(self, *nodes: Any, **kwargs: Any) -> NoReturn:
        raise ConfigurationError(JOINS)

    def _join(self, join_strategy: Any) -> NoReturn:
        raise ConfigurationError(JOINS)


def _event_of(at_hand: Any) -> Any:
    """The event of a delivery; anything else is one already, or None."""
    return at_hand.event() if isinstance(at_hand, DispatchedEvent) else at_hand


JOINS = (
    "Faust's joins are not finished: events of the other side are lost. "
    "Keep one side in a table and look it up while reading the other, co-partitioned by the same key."
)


class Repartition:
    """The first half of `group_by` and `through`: takes the source's events, whose processors send them on."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._work: asyncio.Future[None] | None = None

    def start(self, app: Any) -> None:
        """Run until the app stops; a second call does nothing."""
        if self._work is None or self._work.done():
            self._work = app.add_future(self._run(app))

    async def _run(self, app: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.set_name(f"group_by or through of {self._stream.channel}")
        while True:
            try:
                async for _ in self._stream:
                    pass
            except BaseException as exc:
                unit = current_unit()
                if given_up(task) and not app.should_stop:
                    continue
                if unit is None or not is_own_failure(exc, task, is_ending=app.should_stop):
                    raise
                app.engine.failed(unit, exc, self._stream.inbox.agent if self._stream.inbox else None)
            finally:
                clear_current(task)

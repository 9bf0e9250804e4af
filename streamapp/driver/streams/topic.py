"""A topic: sends inside an event go into its unit; an iterated topic has a mailbox for each actor."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

from faust import topics

from streamapp.driver.streams.mailbox import Mailbox
from streamapp.driver.streams.schema import dumped
from streamapp.driver.streams.sender import STAGED, SendOptions, StagedSend, TopicSender
from streamapp.driver.streams.test_outputs import Output
from streamapp.engine.unit import UnitMisuse


class Topic(topics.Topic):
    """A topic whose sends join the event's transaction. Outside of a worker it is Faust's own topic."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._mailboxes: list[Mailbox] = [Mailbox()]
        #: Largest batch an actor takes; 1: events.
        self.batch = 1
        #: The routes of the partitions it is read from.
        self.routes: WeakSet[Any] = WeakSet()
        self._name: str | None = None
        self._outlet: TopicSender | None = None

    def get_topic_name(self) -> str:
        """The one topic's name; Faust's, remembered."""
        if self._name is None:
            self._name = super().get_topic_name()
        return self._name

    @property
    def lanes(self) -> int:
        """How many actors share the topic: the agent's `concurrency`."""
        return len(self._mailboxes)

    def mailbox(self, index: int) -> Mailbox:
        """The mailbox of one actor, made with all before it when it is first asked for."""
        while len(self._mailboxes) <= index:
            self._mailboxes.append(Mailbox())
        return self._mailboxes[index]

    def take_batches(self, most: int) -> None:
        """The agent takes batches of at most this many events from here on."""
        self.batch = most
        for route in self.routes:
            route.refresh()

    def derive_topic(self, **options: Any) -> Any:
        """Faust's; the derived topic is declared, so that the worker creates it."""
        derived = super().derive_topic(**options)
        for name in derived.topics:
            self.app.declared_topics.setdefault(name, derived.partitions)
        return derived

    def send(
        self,
        *,
        key: Any = None,
        value: Any = None,
        partition: int | None = None,
        timestamp: float | None = None,
        headers: Any = None,
        schema: Any = None,
        key_serializer: Any = None,
        value_serializer: Any = None,
        callback: Any = None,
        force: bool = False,
    ) -> Any:
        """Send a record: in an event, together with everything else the event does. To be awaited.

        `value` None is a null value: a tombstone in a compacted topic.
        `RecordError` for what the topic cannot take; `UnitMisuse` in a worker outside of an event.
        """
        outlet = self._outlet
        if outlet is None:
            outlet = self._opened()
        if outlet is None:
            if self.app.outputs is not None:
                return self._recorded(key, value, partition, headers)
            return super().send(
                key=key,
                value=value,
                partition=partition,
                timestamp=timestamp,
                headers=headers,
                schema=schema,
                key_serializer=key_serializer,
                value_serializer=value_serializer,
                callback=callback,
                force=force,
            )
        if callback is not None:
            raise UnitMisuse(_CALLBACK)
        said = schema or key_serializer or value_serializer
        if said is None and partition is None and timestamp is None and headers is None:
            return outlet.send(key, value)
        return outlet.send_as(
            SendOptions(partition, timestamp, headers, schema or self.schema, key_serializer, value_serializer),
            key,
            value,
        )

    def send_soon(
        self,
        *,
        key: Any = None,
        value: Any = None,
        partition: int | None = None,
        timestamp: float | None = None,
        headers: Any = None,
        schema: Any = None,
        key_serializer: Any = None,
        value_serializer: Any = None,
        callback: Any = None,
        force: bool = False,
        eager_partitioning: bool = False,
    ) -> Any:
        """As `send`, for functions that are not async; the topic must be declared in the app."""
        outlet = self._outlet
        if outlet is None:
            outlet = self._opened()
        if outlet is None:
            if self.app.outputs is not None:
                return self._record(key, value, partition, headers)
            return super().send_soon(
                key=key,
                value=value,
                partition=partition,
                timestamp=timestamp,
                headers=headers,
                schema=schema,
                key_serializer=key_serializer,
                value_serializer=value_serializer,
                callback=callback,
                force=force,
                eager_partitioning=eager_partitioning,
            )
        if callback is not None:
            raise UnitMisuse(_CALLBACK)
        said = schema or key_serializer or value_serializer
        if said is None and partition is None and timestamp is None and headers is None:
            return outlet.send_soon(key, value)
        return outlet.send_soon_as(
            SendOptions(partition, timestamp, headers, schema or self.schema, key_serializer, value_serializer),
            key,
            value,
        )

    def _opened(self) -> TopicSender | None:
        """Where the sends go from here on, until the worker is over; None outside of one."""
        engine = self.app.engine
        if engine is None:
            return None
        self._outlet = TopicSender(self.app, engine, self._name or self.get_topic_name(), self.schema)
        self.app.sending.append(self)
        return self._outlet

    def shut(self) -> None:
        """The engine that its sends went to is over."""
        self._outlet = None

    async def _recorded(self, key: Any, value: Any, partition: int | None, headers: Any) -> StagedSend:
        return self._record(key, value, partition, headers)

    def _record(self, key: Any, value: Any, partition: int | None, headers: Any) -> StagedSend:
        self.app.outputs.append(Output(self.get_topic_name(), key, value, partition, headers))
        return STAGED

    def prepare_value(self, value: Any, value_serializer: Any, schema: Any = None, headers: Any = None) -> Any:
        """For Faust's own sends, outside of a worker."""
        return dumped(schema or self.schema, self.app, value, value_serializer, headers)

    async def publish_message(self, fut: Any, wait: bool = False) -> Any:
        """For Faust's own sends, too; its client knows Kafka's default partitioner alone."""
        message = fut.message
        partitioner = self.app.partitioners.get(self._topic_name_or_default(message.channel))
        if partitioner is not None and message.partition is None and not partitioner.scatters(message.key):
            client = (await self._get_producer())._ensure_producer()
            count = len(await client.partitions_for(self._topic_name_or_default(message.channel)))
            fut.message = message._replace(partition=partitioner.partition_for(message.key, count, 0))
        return await super().publish_message(fut, wait)

    async def maybe_declare(self) -> None:
        """Nothing: the worker creates missing topics with their settings when it starts."""


_CALLBACK = (
    "callback= of a send is not possible: it would run before the commit, or after a crash not at all. "
    "Use after_commit for what must follow a commit."
)

"""A topic: sends inside an event go into its unit; an iterated topic has a mailbox for each actor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn
from weakref import WeakSet

from faust import topics
from faust.types.core import prepare_headers

from streamapp import failpoints
from streamapp.driver.mailbox import Mailbox
from streamapp.driver.outputs import Output
from streamapp.driver.unit import UnitMisuse, current_unit, required_unit


class Staged:
    """What a send inside an event returns. It has no offset before the commit, so it cannot be awaited there."""

    def __await__(self) -> NoReturn:
        raise UnitMisuse(
            "Awaiting the result of a send inside an event would wait for its own commit, for ever. "
            "`await topic.send(...)` once is enough: it is part of the transaction."
        )


_STAGED = Staged()


class Topic(topics.Topic):
    """See the module. Outside of a worker it is Faust's own topic."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._mailboxes: list[Mailbox] = [Mailbox()]
        #: Largest batch an actor takes; 1: events.
        self.batch = 1
        #: The routes of the partitions it is read from.
        self.routes: WeakSet[Any] = WeakSet()
        self._name: str | None = None
        #: Makes a value's bytes where the topic has one type of record.
        self._dump: Any = getattr(self.schema, "dump", None)

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

    async def send(
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
        """Send a record: in an event, together with everything else the event does.

        `RecordError` for what the topic cannot take; `UnitMisuse` in a worker outside of an event.
        """
        engine = self.app.engine
        if engine is None and self.app.outputs is not None:
            return self._record(key, value, partition, headers)
        if engine is None:
            return await super().send(
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
        name = self._name or self.get_topic_name()
        if callback is not None:
            raise UnitMisuse(_CALLBACK)
        if not engine.producer.knows(name):
            required_unit(f"sending to {name}")
            # The event holds up the commit meanwhile.
            await engine.producer.ensure(name, patience_s=engine.barrier_s / 4)
        if failpoints.ARMED:
            await failpoints.pause("send")
        return self._stage(
            engine, name, key, value, partition, timestamp, headers, schema, key_serializer, value_serializer
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
        engine = self.app.engine
        if engine is None and self.app.outputs is not None:
            return self._record(key, value, partition, headers)
        if engine is None:
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
        name = self._name or self.get_topic_name()
        if callback is not None:
            raise UnitMisuse(_CALLBACK)
        if not engine.producer.knows(name):
            raise UnitMisuse(
                f"send_soon() to {name}, which this app does not declare: its partitions are not known. "
                f"Write `app.topic({name!r})` beside the agents, or `await` send() instead."
            )
        return self._stage(
            engine, name, key, value, partition, timestamp, headers, schema, key_serializer, value_serializer
        )

    def _record(self, key: Any, value: Any, partition: int | None, headers: Any) -> Staged:
        self.app.outputs.append(Output(self.get_topic_name(), key, value, partition, headers))
        return _STAGED

    def _stage(
        self,
        engine: Any,
        name: str,
        key: Any,
        value: Any,
        partition: int | None,
        timestamp: float | None,
        headers: Any,
        schema: Any,
        key_serializer: Any,
        value_serializer: Any,
    ) -> Staged:
        unit = current_unit()
        if unit is None:
            unit = required_unit(f"sending to {name}")
        producer = engine.producer
        if (
            self._dump is not None
            and type(key) is str
            and headers is None
            and partition is None
            and timestamp is None
            and (schema or key_serializer or value_serializer) is None
        ):
            raw_key, raw_value = key.encode(), self._dump(value)
            unit.send((name, producer.place(name, raw_key, raw_value), raw_key, raw_value, (), None))
            return _STAGED
        use = self.schema if schema is None else schema
        opened: Any = [] if headers is None else prepare_headers(headers)
        raw_key, opened = use.dumps_key(self.app, key, serializer=key_serializer, headers=opened)
        raw_value, opened = use.dumps_value(self.app, value, serializer=value_serializer, headers=opened)
        listed = _listed(opened) if opened else ()
        stamp = None if timestamp is None else int(timestamp * 1000)
        producer.check(name, raw_key, raw_value, listed, stamp)
        if partition is None:
            partition = producer.partition_for(name, raw_key)
        else:
            producer.check_partition(name, partition)
        unit.send((name, partition, raw_key, raw_value, listed, stamp))
        return _STAGED

    async def maybe_declare(self) -> None:
        """Nothing: the worker creates missing topics with their settings when it starts."""


def _listed(headers: Any) -> tuple[tuple[str, bytes | None], ...]:
    """Headers as Kafka has them: in order, a name may come twice, a value may be null."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return tuple(
        (name, value if value is None or isinstance(value, bytes) else str(value).encode()) for name, value in pairs
    )


_CALLBACK = (
    "callback= of a send is not possible: it would run before the commit, or after a crash not at all. "
    "Use after_commit for what must follow a commit."
)

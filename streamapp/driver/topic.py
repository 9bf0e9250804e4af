"""A topic: sends inside an event go into its unit; an iterated topic has a mailbox for each actor."""

from __future__ import annotations

from typing import Any, NoReturn

from faust import topics

from streamapp import failpoints
from streamapp.driver.agent import Output
from streamapp.driver.mailbox import Mailbox
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

    @property
    def lanes(self) -> int:
        """How many actors share the topic: the agent's `concurrency`."""
        return len(self._mailboxes)

    def mailbox(self, index: int) -> Mailbox:
        """The mailbox of one actor, made with all before it when it is first asked for."""
        while len(self._mailboxes) <= index:
            self._mailboxes.append(Mailbox())
        return self._mailboxes[index]

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
        name = self.get_topic_name()
        if not engine.producer.knows(name):
            required_unit(f"sending to {name}")
            await engine.producer.ensure(name)
        if failpoints.ARMED:
            await failpoints.pause("send")
        return self._stage(
            engine, name, key, value, partition, timestamp, headers, schema, key_serializer, value_serializer
        )

    def send_soon(self, *, callback: Any = None, eager_partitioning: bool = False, **fields: Any) -> Any:
        """As `send`, for functions that are not async; the topic must be declared in the app."""
        engine = self.app.engine
        if engine is None and self.app.outputs is not None:
            return self._record(*(fields.get(name) for name in ("key", "value", "partition", "headers")))
        if engine is None:
            return super().send_soon(callback=callback, eager_partitioning=eager_partitioning, **fields)
        fields.pop("force", None)
        names = ("key", "value", "partition", "timestamp", "headers", "schema", "key_serializer", "value_serializer")
        return self._stage(engine, self.get_topic_name(), *(fields.get(name) for name in names))

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
        use = schema or self.schema
        if headers:
            headers = dict(headers)
        raw_key, headers = use.dumps_key(self.app, key, serializer=key_serializer, headers=headers)
        raw_value, headers = use.dumps_value(self.app, value, serializer=value_serializer, headers=headers)
        producer = engine.producer
        listed = tuple((n, _bytes(v)) for n, v in dict(headers).items()) if headers else ()
        stamp = None if timestamp is None else int(timestamp * 1000)
        producer.check(name, raw_key, raw_value, listed, stamp)
        if partition is None:
            partition = producer.partition_for(name, raw_key)
        unit.send(name, partition, raw_key, raw_value, listed, stamp)
        return _STAGED

    async def maybe_declare(self) -> None:
        """Nothing: the worker creates missing topics with their settings when it starts."""


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()

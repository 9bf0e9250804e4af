"""Where the sends to one topic go while a worker runs: encoded, placed, and staged in the unit of the coroutine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from faust.types.core import prepare_headers

from streamapp import failpoints
from streamapp.arming import ARMED
from streamapp.driver.streams.accepted import ConsumerChecks
from streamapp.driver.streams.schema import RecordSchema, dumped
from streamapp.engine.unit import UnitMisuse, current_unit, required_unit
from streamapp.eos.batches import ROOM
from streamapp.eos.partitioner import DEFAULT, Partitioner
from streamapp.eos.record_accumulator import RecordAccumulator
from streamapp.errors import RecordError


class StagedSend:
    """What a send inside an event returns. It has no offset before the commit, so it cannot be awaited there."""

    def __await__(self) -> NoReturn:
        raise UnitMisuse(
            "Awaiting the result of a send inside an event would wait for its own commit, for ever. "
            "`await topic.send(...)` once is enough: it is part of the transaction."
        )


STAGED = StagedSend()


class SendOptions(NamedTuple):
    """How a record is to be sent, as Faust's `send` takes it. `timestamp` in seconds."""

    partition: int | None
    timestamp: float | None
    headers: Any
    schema: Any
    key_serializer: Any = None
    value_serializer: Any = None


class TopicSender:
    """One topic's. `schema` is the topic's own; a send may name another (`SendOptions`)."""

    __slots__ = (
        "_accepted",
        "_app",
        "_count",
        "_encode",
        "_filling",
        "_known",
        "_name",
        "_partitioner",
        "_roomy",
        "_schema",
        "_topics",
        "_type",
        "engine",
    )

    def __init__(self, app: Any, engine: Any, name: str, schema: Any) -> None:
        self.engine = engine
        self._app = app
        self._name = name
        self._schema = schema
        #: Makes the bytes of a value of that type, where the topic has one type of record.
        self._encode: Any = schema.codec.encode if isinstance(schema, RecordSchema) else None
        self._type: Any = schema.codec.record_type if isinstance(schema, RecordSchema) else None
        self._filling: RecordAccumulator = engine.producer.filling
        self._topics = self._filling.topics
        self._partitioner: Partitioner = self._filling.partitioners.get(name, DEFAULT)
        accepted = ConsumerChecks(app, name)
        #: What the app's own agents of the topic accept; None where none of them reads a type.
        self._accepted: Any = accepted if accepted.codecs else None
        #: The topic as it was seen last, its partitions, and the bytes of key and value that it always takes.
        self._known: Any = None
        self._count = self._roomy = 0

    async def send(self, key: Any, value: Any) -> Any:
        """Stage a record with nothing else said."""
        if self._name not in self._topics:
            await self._ensured()
        if ARMED.on:
            await failpoints.pause("send")
        return self._stage(key, value)

    async def send_as(self, form: SendOptions, key: Any, value: Any) -> Any:
        """Stage a record in another form."""
        if self._name not in self._topics:
            await self._ensured()
        if ARMED.on:
            await failpoints.pause("send")
        return self._stage_as(form, key, value)

    def send_soon(self, key: Any, value: Any) -> Any:
        """As `send`; `UnitMisuse` for a topic that is not known yet."""
        if self._name not in self._topics:
            self._refuse()
        return self._stage(key, value)

    def send_soon_as(self, form: SendOptions, key: Any, value: Any) -> Any:
        """As `send_as`; `UnitMisuse` for a topic that is not known yet."""
        if self._name not in self._topics:
            self._refuse()
        return self._stage_as(form, key, value)

    async def _ensured(self) -> None:
        required_unit(f"sending to {self._name}")
        # The event holds up the commit meanwhile.
        await self.engine.producer.ensure(self._name, patience_s=self.engine.barrier_s / 4)

    def _refuse(self) -> NoReturn:
        raise UnitMisuse(
            f"send_soon() to {self._name}, which this app does not declare: its partitions are not known. "
            f"Write `app.topic({self._name!r})` beside the agents, or `await` send() instead."
        )

    def _stage(self, key: Any, value: Any) -> Any:
        if self._encode is None or type(key) is not str:
            return self._stage_as(SendOptions(None, None, None, self._schema), key, value)
        unit = current_unit()
        if unit is None:
            unit = required_unit(f"sending to {self._name}")
        known = self._topics[self._name]
        if known is not self._known:
            self._known = known
            self._count, self._roomy = known.partition_count, known.max_message_bytes - ROOM
        text: str = key
        raw_key: bytes = text.encode()
        raw_value: bytes | None = self._encode(value) if type(value) is self._type else self._schema.dump(value)
        size = len(raw_key)
        if raw_value is not None:
            size += len(raw_value)
        if size > self._roomy:
            self._filling.check(self._name, raw_key, raw_value)
        partition = self._partitioner.partition_of(raw_key, self._count)
        if self._accepted is not None:
            self._accepted.check(raw_key, raw_value, value, partition, self._count)
        unit.send((self._name, partition, raw_key, raw_value, (), None))
        return STAGED

    def _stage_as(self, form: SendOptions, key: Any, value: Any) -> Any:
        unit = required_unit(f"sending to {self._name}")
        use, name, filling = form.schema, self._name, self._filling
        opened: Any = [] if form.headers is None else prepare_headers(form.headers)
        raw_key, opened = use.dumps_key(self._app, key, serializer=form.key_serializer, headers=opened)
        raw_value, opened = dumped(use, self._app, value, form.value_serializer, opened)
        raw_key, raw_value = _plain(raw_key, name), _plain(raw_value, name)
        listed = _listed(opened) if opened else ()
        stamp = None if form.timestamp is None else int(form.timestamp * 1000)
        filling.check(name, raw_key, raw_value, listed, stamp)
        if form.partition is None:
            partition = filling.partition_for(name, raw_key)
        else:
            partition = form.partition
            filling.check_partition(name, partition)
        if self._accepted is not None:
            count = self._topics[name].partition_count
            # a partition that was said is for the reader to judge
            self._accepted.check(raw_key, raw_value, value if form.partition is None else None, partition, count)
        unit.send((name, partition, raw_key, raw_value, listed, stamp))
        return STAGED


def _plain(data: Any, topic: str) -> bytes | None:
    """A serializer's result as bytes; `RecordError` where it made something else."""
    if data is None or type(data) is bytes:
        return data
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    raise RecordError(f"A record for {topic} was serialized to {type(data).__name__}, not to bytes.")


def _listed(headers: Any) -> tuple[tuple[str, bytes | None], ...]:
    """Headers as Kafka has them: in order, a name may come twice, a value may be null."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return tuple(
        (name, value if value is None or isinstance(value, bytes) else str(value).encode()) for name, value in pairs
    )

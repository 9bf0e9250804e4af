"""What the auditor asks of Kafka, through confluent-kafka: offsets, the group's place, and records.

Another client than the service's on purpose: a fault of one client's fetch or offset code must not blind both.
Every question has a bound; an unanswered one is `Unreachable`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, ResourceType

from streamapp.audit.record import Record

_T = TypeVar("_T")

#: What brokers answer for a moment while leaders and coordinators move, such as when one has just come back.
_PASSING = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.UNKNOWN_LEADER_EPOCH,
    }
)
#: What the client says itself when no broker, or no coordinator, has answered in time.
_NOBODY = frozenset(
    {KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN, KafkaError._WAIT_COORD}
)
_PAUSE_S = 0.2


class CannotTell(Exception):
    """Why there is no verdict; `str()` is a sentence. The audit ends UNKNOWN."""


class Unreachable(CannotTell):
    """No broker answered, or not in time."""


class Span(NamedTuple):
    """A partition's visible records: from the first kept offset to the last stable one, and what is written at all."""

    first: int
    stable: int  # last stable offset: below it no transaction is open
    written: int  # high watermark


#: A topic and a partition number.
Place = tuple[str, int]


class Broker:
    """A connection to read with. Joins no group, commits nothing. Close it."""

    def __init__(self, config: Mapping[str, Any], *, timeout_s: float = 10.0) -> None:
        self._timeout_s = timeout_s
        self._address = str(config.get("bootstrap.servers", "?"))
        self._error = ""
        self._config = {**config, "log_level": 0, "error_cb": self._remember_error}
        reading = {
            "group.id": "streamapp-audit", "enable.auto.commit": False, "enable.auto.offset.store": False,
            "isolation.level": "read_committed", "auto.offset.reset": "error", "enable.partition.eof": True,
            "check.crcs": True, "queued.max.messages.kbytes": 32_768, "fetch.wait.max.ms": 50,
            "fetch.error.backoff.ms": 50, "fetch.queue.backoff.ms": 50,
        }  # fmt: skip
        try:
            self._admin = AdminClient(self._config)
            self._consumer = Consumer({**self._config, **reading})
        except (KafkaException, TypeError, ValueError) as exc:
            raise CannotTell(f"the connection to Kafka is not configured right: {exc}") from None

    def close(self) -> None:
        """Give the connections back."""
        self._consumer.close()

    def _remember_error(self, error: KafkaError) -> None:
        self._error = error.str()

    def _unreachable(self) -> Unreachable:
        self._admin.poll(0)  # librdkafka tells its errors only when it is asked
        because = f" The last error: {self._error}" if self._error else ""
        return Unreachable(f"no Kafka broker answered at {self._address} within {self._timeout_s:g} s.{because}")

    def _ask(self, question: Callable[[], _T]) -> _T:
        """The answer. What passes by itself is asked again for `timeout_s`; then it is a reason, as others at once."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                return question()
            except TimeoutError:  # of a future, which was quicker than the client's own time-out
                raise self._unreachable() from None
            except KafkaException as exc:
                error = exc.args[0]
                if error.code() in _NOBODY:
                    raise self._unreachable() from None
                if error.code() not in _PASSING:
                    raise CannotTell(f"Kafka refused: {error.str()}") from None
                if time.monotonic() >= deadline:
                    raise CannotTell(f"Kafka refused for {self._timeout_s:g} s: {error.str()}") from None
            time.sleep(_PAUSE_S)

    def partitions(self, topics: Iterable[str]) -> dict[str, int]:
        """The partition count of each topic that exists."""
        known = self._ask(lambda: self._admin.list_topics(timeout=self._timeout_s)).topics
        return {name: len(known[name].partitions) for name in topics if name in known and known[name].error is None}

    def spans(self, partitions: Mapping[str, int]) -> dict[Place, Span]:
        """Where each partition of these topics begins and ends now."""
        first = self._offsets(partitions, OffsetSpec.earliest(), IsolationLevel.READ_UNCOMMITTED)
        stable = self._offsets(partitions, OffsetSpec.latest(), IsolationLevel.READ_COMMITTED)
        written = self._offsets(partitions, OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED)
        return {place: Span(first[place], stable[place], written[place]) for place in first}

    def _offsets(self, partitions: Mapping[str, int], spec: Any, isolation: IsolationLevel) -> dict[Place, int]:
        wanted = {TopicPartition(name, number): spec for name, count in partitions.items() for number in range(count)}
        if not wanted:
            return {}
        answers = self._ask(
            lambda: {
                (asked.topic, asked.partition): answer.result(self._timeout_s)
                for asked, answer in self._admin.list_offsets(
                    wanted, isolation_level=isolation, request_timeout=self._timeout_s
                ).items()
            }
        )
        return {place: answer.offset for place, answer in answers.items()}

    def committed(self, group: str, partitions: Mapping[str, int]) -> dict[Place, int]:
        """The group's committed offset of each partition; 0 where it has none."""
        wanted = [TopicPartition(name, number) for name, count in partitions.items() for number in range(count)]
        if not wanted:
            return {}
        # A consumer that never joins. AdminClient.list_consumer_group_offsets ends the process (SIGSEGV, librdkafka
        # issue 5040) where the coordinator answers that it is none, as when its broker has just come back.
        of_group = {"group.id": group, "isolation.level": "read_uncommitted", "enable.auto.commit": False}
        asking = Consumer({**self._config, **of_group})

        def ask() -> list[TopicPartition]:
            found: list[TopicPartition] = asking.committed(wanted, timeout=self._timeout_s)
            for at in found:
                if at.error is not None:
                    raise KafkaException(at.error)
            return found

        try:
            return {(at.topic, at.partition): max(at.offset, 0) for at in self._ask(ask)}
        finally:
            asking.close()

    def setting(self, topic: str, name: str) -> str:
        """A topic's setting in force."""
        resource = ConfigResource(ResourceType.TOPIC, topic)
        answers = self._ask(
            lambda: self._admin.describe_configs([resource], request_timeout=self._timeout_s)[resource].result(
                self._timeout_s
            )
        )
        return str(answers[name].value)

    def read(self, topic: str, spans: Mapping[int, tuple[int, int]], *, with_headers: bool = False) -> Iterator[Record]:
        """Committed records of a topic, of each partition from its first offset up to, not including, its last.

        The partitions come interleaved, each in offset order. Raises `Unreachable` when nothing comes any more. Ask for
        headers only of what the service writes: anybody can send a header whose name is no UTF-8, and over that one
        `Message.headers` of confluent-kafka damages the process's memory.
        """
        reading = {number: first for number, (first, end) in spans.items() if end > first}
        if not reading:
            return
        self._assign(topic, reading)
        deadline = time.monotonic() + self._timeout_s
        while reading:
            messages = self._ask(lambda: self._consumer.consume(5_000, timeout=0.05))
            refusal: KafkaError | None = None
            for message in messages:
                number = message.partition()
                if (error := message.error()) is not None:
                    if error.code() == KafkaError._PARTITION_EOF:
                        reading.pop(number, None)
                    elif error.code() in _PASSING and time.monotonic() < deadline:
                        refusal = error
                    else:
                        raise CannotTell(f"{topic}[{number}] cannot be read: {error.str()}")
                    continue
                deadline = time.monotonic() + self._timeout_s
                if number not in reading:
                    continue
                offset, end = message.offset(), spans[number][1]
                reading[number] = offset + 1
                if offset + 1 >= end:
                    del reading[number]
                if offset < end:
                    yield _record(message, with_headers)
            if refusal is not None:  # read on from where it came to
                time.sleep(_PAUSE_S)
                self._assign(topic, reading)
            elif time.monotonic() > deadline:
                raise self._unreachable()
        self._consumer.unassign()

    def _assign(self, topic: str, positions: Mapping[int, int]) -> None:
        self._consumer.assign([TopicPartition(topic, number, offset) for number, offset in positions.items()])
        # Asked for now, the partitions' leaders are known at once; librdkafka itself would look for them every second.
        self._ask(lambda: self._consumer.list_topics(topic, timeout=self._timeout_s))


def _record(message: Any, with_headers: bool) -> Record:
    kind, timestamp_ms = message.timestamp()
    if kind != TIMESTAMP_LOG_APPEND_TIME:
        raise CannotTell(
            f"{message.topic()} does not carry append times (message.timestamp.type=LogAppendTime); "
            "`streamapp topics apply` sets it for records to come."
        )
    return Record(
        message.topic(), message.partition(), message.offset(), timestamp_ms, message.key(), message.value(),
        tuple(message.headers() or ()) if with_headers else (),
    )  # fmt: skip

"""What a worker has committed, read out of the broker in memory: outputs, tables, dead letters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from streamapp.delivery import dead_letter
from streamapp.state import MemoryState, StoreIdentity, StoreTransaction
from streamapp.testing.broker import MemoryBroker
from streamapp.types import Headers, Partition


class CommittedRecord(NamedTuple):
    """A committed record. `value` is the JSON value, or the bytes where they are none; the key is text.

    None is a null value and the JSON text `null`; `is_tombstone` says which.
    """

    key: Any
    value: Any
    headers: dict[str, str]
    topic: str
    partition: int
    offset: int
    #: Append time, seconds since the epoch.
    appended_at: float
    #: Whether the value is a null value, Kafka's tombstone, and no text at all.
    is_tombstone: bool = False


class DeadLetter(NamedTuple):
    """A record that was given up: where it was, and why."""

    key: Any
    value: Any
    topic: str
    partition: int
    offset: int
    #: The kind of a bad record (`KeyMismatch`), or the exception's full name.
    kind: str
    reason: str
    attempts: int
    #: Whether the value that was given up is a null value, and no text at all.
    is_tombstone: bool = False


def records(broker: MemoryBroker, topic: str) -> list[CommittedRecord]:
    """The committed records of a topic: by append time, and in their order within a partition."""
    found = [
        CommittedRecord(
            _text(record.key),
            _json(record.value),
            {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers},
            topic,
            partition.number,
            record.offset,
            record.timestamp_ms / 1000,
            record.value is None,
        )
        for partition, record in _committed(broker, topic)
    ]
    return sorted(found, key=lambda record: (record.appended_at, record.partition, record.offset))


def dead_letters(broker: MemoryBroker, topic: str) -> list[DeadLetter]:
    """What was given up of a topic's records, in the order of their places."""
    found = []
    for record in records(broker, topic + dead_letter.SUFFIX) if topic + dead_letter.SUFFIX in broker.topics else ():
        headers = record.headers
        found.append(
            DeadLetter(
                record.key,
                record.value,
                headers["dlt-original-topic"],
                int(headers["dlt-original-partition"]),
                int(headers["dlt-original-offset"]),
                headers["dlt-exception-fqcn"],
                headers["dlt-exception-message"],
                int(headers["dlt-attempts"]),
                record.is_tombstone,
            )
        )
    return sorted(found, key=lambda letter: (letter.partition, letter.offset))


def fold(broker: MemoryBroker, changelog: str) -> dict[bytes, bytes]:
    """A table as its committed changelog has it."""
    rows: dict[bytes, bytes] = {}
    for _, record in _committed(broker, changelog) if changelog in broker.topics else ():
        if record.key is not None:
            if record.value is None:
                rows.pop(record.key, None)
            else:
                rows[record.key] = record.value
    return rows


def unit_of(rows: dict[bytes, bytes]) -> StoreTransaction:
    """Rows as an agent would read them."""
    partition = MemoryState().open_partition(StoreIdentity("bench", "readings", 0, ""))
    partition.restore(rows.items(), 0)
    return partition.begin()


def contents(broker: MemoryBroker, topic: str) -> list[tuple[int, bytes | None, bytes | None, Headers]]:
    """Partition, key, value and headers of every committed record, in no order that a crash could change."""
    found = [(at.number, record.key, record.value, record.headers) for at, record in _committed(broker, topic)]
    return sorted(found, key=repr)


def plain(value: Any) -> Any:
    """A value as JSON has it: a test's own class and the app's are two, since the app was imported anew."""
    try:
        return msgspec.to_builtins(value)
    except TypeError:
        return value


def _committed(broker: MemoryBroker, topic: str) -> Iterator[tuple[Partition, Any]]:
    for number in range(broker.topics[topic].partition_count):
        partition = Partition(topic, number)
        log = broker.logs[partition]
        for record in log.fetch(log.start_offset, committed_only=True).records:
            yield partition, record


def _text(raw: bytes | None) -> Any:
    try:
        return None if raw is None else raw.decode()
    except UnicodeDecodeError:
        return raw


def _json(raw: bytes | None) -> Any:
    try:
        return None if raw is None else msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return raw

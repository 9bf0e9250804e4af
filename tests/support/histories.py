"""Made-up histories for the auditor: topics in memory that tests write, and then break."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from streamapp.audit.partitioner import partition_of
from streamapp.audit.record import Record, Topics
from streamapp.audit.report import Findings, Report

PARTITIONS = 3
TOPICS = Topics()
NOON_MS = 1_767_268_800_000  # 2026-01-01T12:00:00Z
#: The violations that only windows have.
OF_WINDOWS = (
    "wrong-total", "revision-gap", "final-missing", "final-early", "final-changed", "late-missing", "late-unjustified",
    "late-altered",
)  # fmt: skip


@dataclass
class Log:
    """The topics, each of `count` partitions; every record is one millisecond younger than the last."""

    count: int = PARTITIONS
    partitions: dict[str, list[list[Record]]] = field(init=False)
    now_ms: int = NOON_MS

    def __post_init__(self) -> None:
        self.partitions = {name: [[] for _ in range(self.count)] for name in TOPICS.all}

    def append(
        self,
        topic: str,
        key: str | bytes | None,
        value: dict[str, Any] | bytes | None,
        partition: int | None = None,
        headers: tuple[tuple[str, bytes | None], ...] = (),
    ) -> Record:
        raw_key = key.encode() if isinstance(key, str) else key
        raw = json.dumps(value).encode() if isinstance(value, dict) else value
        number = partition_of(raw_key or b"", self.count) if partition is None else partition
        log = self.partitions[topic][number]
        self.now_ms += 1
        log.append(Record(topic, number, log[-1].offset + 1 if log else 0, self.now_ms, raw_key, raw, headers))
        return log[-1]

    def all(self, topic: str) -> list[Record]:
        return [record for log in self.partitions[topic] for record in log]

    def records(self) -> Iterator[Record]:
        for topic in TOPICS.all:
            yield from self.all(topic)

    def one(self, topic: str, **fields: Any) -> Record:
        """The one record of a topic with these fields."""
        found = [record for record in self.all(topic) if _has(record, fields)]
        assert len(found) == 1, (topic, fields, found)
        return found[0]

    def bury(self, record: Record, kind: str) -> None:
        """Append the dead letter of a record, as a worker does."""
        about = {
            "original-topic": record.topic, "original-partition": record.partition, "original-offset": record.offset,
            "original-timestamp": record.timestamp_ms, "original-consumer-group": "streamapp",
            "exception-fqcn": kind, "exception-message": "bad", "attempts": 1,
        }  # fmt: skip
        headers = tuple((f"dlt-{name}", str(text).encode()) for name, text in about.items())
        self.append(record.topic + "-dlt", record.key, record.value, record.partition, headers)

    # edits

    def drop(self, record: Record) -> None:
        self.partitions[record.topic][record.partition].remove(record)

    def repeat(self, record: Record) -> None:
        self.append(record.topic, record.key, record.value, record.partition, record.headers)

    def replace(self, record: Record, **changes: Any) -> None:
        log = self.partitions[record.topic][record.partition]
        log[log.index(record)] = record._replace(**changes)

    def alter(self, record: Record, **fields: Any) -> None:
        assert record.value is not None
        self.replace(record, value=json.dumps(json.loads(record.value) | fields).encode())

    def move(self, record: Record, partition: int) -> None:
        self.drop(record)
        self.append(record.topic, record.key, record.value, partition, record.headers)

    def swap(self, one: Record, other: Record) -> None:
        self.replace(one, key=other.key, value=other.value)
        self.replace(other, key=one.key, value=one.value)

    def edit(self, kind: str, record: Record, rng: random.Random) -> None:
        """`drop`, `repeat` or `move` the record, or give it another `key`."""
        if kind == "drop":
            self.drop(record)
        elif kind == "repeat":
            self.repeat(record)
        elif kind == "move":
            self.move(record, (record.partition + 1 + rng.randrange(PARTITIONS - 1)) % PARTITIONS)
        else:
            assert kind == "key"
            self.replace(record, key=rng.choice([None, b"eve", b""]))


class Blinded(Findings):
    """Findings that never hear of one check."""

    def __init__(self, check: str) -> None:
        super().__init__()
        self._check = check

    def examine(self, check: str, timestamp_ms: int | None) -> None:
        if check != self._check:
            super().examine(check, timestamp_ms)


def _has(record: Record, fields: dict[str, Any]) -> bool:
    try:
        value = read(record)
    except ValueError:
        return False
    return all(value.get(name) == wanted for name, wanted in fields.items())


def elsewhere(record: Record) -> int:
    """A partition the record is not in."""
    return (record.partition + 1) % PARTITIONS


def read(record: Record) -> dict[str, Any]:
    """The value of a record."""
    value: dict[str, Any] = json.loads(record.value or b"")
    return value


def names(report: Report) -> set[str]:
    """The names of the violations found."""
    return set(report.findings.named)

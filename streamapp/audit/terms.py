"""What the judge has to be told, because no record says it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from streamapp.audit.record import Topics, unpacked

#: What a topic of the contract takes at most unless it says something else: `max.message.bytes`.
LARGEST_BYTES = (1 << 20) + (16 << 10)
#: A dead letter is its record and where it was: what is larger has position and hash instead of the value.
_LARGEST_LETTER_BYTES = (1 << 20) + (64 << 10)
#: How much less than that a letter must be to be written whole for certain.
_LETTER_FRAMING_BYTES = 32 << 10

#: `once`: repeats in the input count once (the inbox). `each`: every record of the input counts, repeat or not.
Expect: TypeAlias = Literal["once", "each"]


@dataclass(frozen=True, slots=True)
class Cut:
    """Where "must have happened" ends, by input topic and partition; what is younger may be on its way.

    What is below its input's cut was consumed before the ends of what it leads to were taken: so everything below has
    all its effects among the records read. An input that is not named has nothing on its way.
    """

    ends: Mapping[str, Mapping[int, int]] = field(default_factory=dict)

    def settled(self, topic: str, position: int) -> bool:
        """Whether the record of this input at this position must have had all its effects."""
        bounds = self.ends.get(topic)
        if bounds is None:
            return True
        partition, offset = unpacked(position)
        return offset < bounds.get(partition, 0)


@dataclass(frozen=True, slots=True)
class Rules:
    """Settings of the service that decide outcomes; times in microseconds."""

    payment_limit: int = 10_000_000
    window_us: int = 60_000_000
    grace_us: int = 10_000_000
    #: A silent partition's windows may be closed before the watermark says so.
    closes_idle: bool = False
    inbox_retention_ms: int = 7 * 86_400_000


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of one audit."""

    partitions: Mapping[str, int]  # how many, by topic
    topics: Topics = field(default_factory=Topics)
    group: str = "streamapp"
    expect: Expect = "once"
    rules: Rules = field(default_factory=Rules)
    cut: Cut = field(default_factory=Cut)
    #: Compaction may have removed upserts appended before this, by topic; that is no violation, but no proof either.
    compacted_before_ms: Mapping[str, int] = field(default_factory=dict)

    #: `max.message.bytes` by topic, where it is known.
    room: Mapping[str, int] = field(default_factory=dict)

    def fits(self, topic: str, size: int) -> bool:
        """Whether a record of so many bytes of key, value and headers is taken by a topic, whatever else it needs."""
        return size + 1024 <= self.room.get(topic, LARGEST_BYTES)

    def changelogs(self, *tables: str) -> Iterator[str]:
        """The topics of rows, which are not read."""
        return (f"{self.group}-{table}-changelog" for table in tables)

    def letter_fits(self, topic: str, size: int) -> bool:
        """Whether a dead letter of so many bytes must have been written whole."""
        limit = min(_LARGEST_LETTER_BYTES, self.room.get(topic, _LARGEST_LETTER_BYTES))
        return size + _LETTER_FRAMING_BYTES <= limit

    def may_be_compacted(self, topic: str, timestamp_ms: int) -> bool:
        """Whether a record of this topic, appended then, may have been removed by compaction."""
        return timestamp_ms < self.compacted_before_ms.get(topic, 0)

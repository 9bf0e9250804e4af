"""A partition's log in memory: batches as they were sent, control records, the last stable offset, compaction.

One copy, so the high watermark is the log's end. Records are parsed when somebody reads them, not when they are
written. The checks and their order are Kafka's (UnifiedLog, LogValidator), seen in `tests/contract`.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable
from typing import NamedTuple

from streamapp.client.record_batch import BatchRecord, unpack
from streamapp.eos.protocol import Code, Produced, TopicDescription
from streamapp.testing.producers import ProducerState, WrittenBatch
from streamapp.types import Partition

# base offset, length, leader epoch, magic, checksum, attributes, last offset delta, first and highest timestamp,
# producer id, epoch, first sequence, record count (KIP-98)
_HEADER = struct.Struct(">qiibIhiqqqhii")
_MAGIC = 2
_TRANSACTIONAL = 0x10
_CONTROL = 0x20
_UNBOUNDED = (2**63 - 1, 2**63 - 1)


class LogBatch:
    """A record batch in the log, or a control record (`committed` says which; None for records)."""

    __slots__ = (
        "aborted",
        "append_time_ms",
        "base_offset",
        "committed",
        "epoch",
        "last_offset",
        "leader_epoch",
        "payload",
        "producer_id",
        "records",
        "transactional",
    )

    def __init__(self, base_offset: int, last_offset: int, payload: bytes, producer_id: int, epoch: int) -> None:
        self.base_offset = base_offset
        self.last_offset = last_offset
        self.payload = payload
        self.producer_id = producer_id
        self.epoch = epoch
        self.leader_epoch = 0
        self.transactional = False
        self.committed: bool | None = None
        self.aborted = False
        #: Set where the topic has append time: it replaces the records' own.
        self.append_time_ms = -1
        self.records: list[BatchRecord] | None = None

    def read(self) -> list[BatchRecord]:
        """The records with their offsets in the log."""
        if self.records is None:
            base, stamp = self.base_offset, self.append_time_ms
            self.records = [
                BatchRecord(base + index, stamp if stamp >= 0 else record.timestamp_ms, *record[2:])
                for index, record in enumerate(unpack(self.payload))
            ]
        return self.records


class Fetched(NamedTuple):
    """What a fetch found. `position` is where the next one begins: behind control and aborted records too."""

    error: int
    records: tuple[BatchRecord, ...] = ()
    position: int = -1
    #: The newest leader epoch of what lies before `position`; -1 where there was nothing.
    leader_epoch: int = -1


class AbortedRange(NamedTuple):
    """A transaction that had no effect: its records between these offsets (the last is the marker's) do not count."""

    producer_id: int
    first_offset: int
    last_offset: int


#: Whether the coordinator lets this producer write here; asked only when no transaction of it is open in the log.
Admission = Callable[[int, int], int]


class PartitionLog:
    """One partition."""

    def __init__(self, partition: Partition, topic: TopicDescription) -> None:
        self.partition = partition
        self.topic = topic
        self.start_offset = 0
        self.high_watermark = 0
        #: Counts up with each election. Where each one's records begin: (epoch, offset).
        self.leader_epoch = 0
        self._epochs: list[tuple[int, int]] = [(0, 0)]
        self.batches: list[LogBatch] = []
        self.aborted_ranges: list[AbortedRange] = []
        self._bases: list[int] = []
        self._producers: dict[int, ProducerState] = {}
        #: Batches of open transactions by producer id, and where each began.
        self._open: dict[int, list[LogBatch]] = {}
        self._watchers: list[Callable[[], None]] = []
        #: Nobody who waits for something new is told for now.
        self.is_quiet = False

    @property
    def last_stable_offset(self) -> int:
        """Below it no transaction is open."""
        return min((batches[0].base_offset for batches in self._open.values()), default=self.high_watermark)

    def has_open(self, producer_id: int, epoch: int) -> bool:
        """Whether this producer has a transaction open here in this epoch."""
        state = self._producers.get(producer_id)
        return state is not None and state.open_since is not None and state.epoch == epoch

    def is_stale(self, producer_id: int, epoch: int) -> bool:
        """Whether a newer epoch of this producer was seen here, so that nobody else need be asked."""
        state = self._producers.get(producer_id)
        return state is not None and epoch < state.epoch

    def append(self, payload: bytes, now_ms: int) -> Produced:
        """Append one batch after Kafka's checks of content, epoch and sequence; a repeated one is not appended."""
        if len(payload) < _HEADER.size:
            return Produced(Code.CORRUPT_MESSAGE)
        (_, length, _, magic, _, attributes, last_delta, _, _, producer_id, epoch, sequence, _) = _HEADER.unpack_from(
            payload
        )
        if magic != _MAGIC or attributes & _CONTROL or length + 12 != len(payload):
            return Produced(Code.CORRUPT_MESSAGE)
        refusal = self._refuse_content(payload, now_ms)
        if refusal is not None:
            return refusal
        base, transactional = self.high_watermark, bool(attributes & _TRANSACTIONAL)
        stamp = now_ms if self.topic.append_time else -1
        if producer_id >= 0:
            state = self._producers.get(producer_id) or ProducerState()
            last_sequence = (sequence + last_delta) % 2**31
            earlier = state.repeated(epoch, sequence, last_sequence)
            if earlier is not None:
                return Produced(Code.NONE, earlier, stamp)
            if code := state.verdict(epoch, sequence, transactional):
                return Produced(code)
            self._producers[producer_id] = state
            state.appended(epoch, WrittenBatch(sequence, last_sequence, base), transactional)
        batch = LogBatch(base, base + last_delta, payload, producer_id, epoch)
        batch.transactional, batch.append_time_ms = transactional, stamp
        self._push(batch)
        if transactional:
            self._open.setdefault(producer_id, []).append(batch)
        return Produced(Code.NONE, base, stamp)

    def _refuse_content(self, payload: bytes, now_ms: int) -> Produced | None:
        topic = self.topic
        if len(payload) > topic.max_message_bytes:
            return Produced(Code.MESSAGE_TOO_LARGE)
        if topic.compacted:
            keyless = [index for index, record in enumerate(unpack(payload)) if record.key is None]
            if keyless:
                reason = f"Compacted topic cannot accept message without key in topic partition {self.partition}."
                return Produced(Code.INVALID_RECORD, record_errors=tuple((index, reason) for index in keyless))
        if not topic.append_time and (topic.timestamp_before_max_ms, topic.timestamp_after_max_ms) != _UNBOUNDED:
            earliest, latest = now_ms - topic.timestamp_before_max_ms, now_ms + topic.timestamp_after_max_ms
            if not all(earliest <= record.timestamp_ms <= latest for record in unpack(payload)):
                return Produced(Code.INVALID_TIMESTAMP)
        return None

    def mark(self, producer_id: int, epoch: int, committed: bool) -> None:
        """Write the control record that ends this producer's transaction here. `epoch` is the next transaction's."""
        marker = LogBatch(self.high_watermark, self.high_watermark, b"", producer_id, epoch)
        marker.transactional, marker.committed = True, committed
        self._push(marker)
        self._producers.setdefault(producer_id, ProducerState()).ended(epoch)
        batches = self._open.pop(producer_id, [])
        if batches and not committed:
            for batch in batches:
                batch.aborted = True
            self.aborted_ranges.append(AbortedRange(producer_id, batches[0].base_offset, marker.base_offset))
        self._announce()

    def fetch(self, offset: int, *, committed_only: bool, record_limit: int = 1 << 31) -> Fetched:
        """Records from `offset` on. With `committed_only` those below the last stable offset that were not aborted."""
        if not self.start_offset <= offset <= self.high_watermark:
            return Fetched(Code.OFFSET_OUT_OF_RANGE)
        end = self.last_stable_offset if committed_only else self.high_watermark
        found: list[BatchRecord] = []
        position, leader_epoch = offset, -1
        for batch in self.batches[max(bisect_right(self._bases, offset) - 1, 0) :]:
            if batch.base_offset >= end or len(found) >= record_limit:
                break
            if batch.last_offset < offset:
                continue
            position, leader_epoch = batch.last_offset + 1, batch.leader_epoch
            if batch.committed is None and not (committed_only and batch.aborted):
                found.extend(record for record in batch.read() if record.offset >= offset)
        if len(found) > record_limit:
            del found[record_limit:]
            position = found[-1].offset + 1
        return Fetched(Code.NONE, tuple(found), position, leader_epoch)

    def newest(self) -> tuple[int, int]:
        """Offset and time (ms) of the record with the highest timestamp; (-1, -1) where there is none."""
        found = (-1, -1)
        for batch in self.batches:
            if batch.committed is None:
                for record in batch.read():
                    if record.timestamp_ms > found[1]:
                        found = record.offset, record.timestamp_ms
        return found

    def watch(self, callback: Callable[[], None]) -> None:
        """Call it once when there may be something new to read."""
        self._watchers.append(callback)

    def delete_before(self, offset: int) -> None:
        """Retention: drop whole batches below `offset`, and let the log begin there."""
        self.start_offset = max(self.start_offset, min(offset, self.high_watermark))
        self._keep([batch for batch in self.batches if batch.last_offset >= self.start_offset])

    def elect(self, truncate_to: int | None = None) -> None:
        """Another leader takes over; with `truncate_to` one that lacks what lies from there on: an unclean election."""
        self.leader_epoch += 1
        if truncate_to is not None and truncate_to < self.high_watermark:
            self._keep([batch for batch in self.batches if batch.last_offset < truncate_to])
            self.high_watermark = max(self.start_offset, truncate_to)
            self._epochs = [(epoch, start) for epoch, start in self._epochs if start < truncate_to]
            self._open.clear()
            self._announce()
        self._epochs.append((self.leader_epoch, self.high_watermark))

    def epoch_end(self, epoch: int) -> int:
        """Where the records of this leader epoch, or of the one before it that there is, end; -1: it is unknown."""
        if epoch > self.leader_epoch:
            return -1
        return next((start for other, start in self._epochs if other > epoch), self.high_watermark)

    def compact(self, *, before: int | None = None, drop_tombstones: bool = False) -> None:
        """Keep the last committed record of each key below `before` (default: the last stable offset).

        Aborted records go. Offsets stay what they are, so gaps appear; the log's last batch is never touched, as
        Kafka never cleans its active segment.
        """
        stable = self.last_stable_offset
        limit = stable if before is None else min(before, stable)
        dirty = [batch for batch in self.batches[:-1] if batch.last_offset < limit]
        last: dict[bytes | None, int] = {}
        for batch in dirty:
            if batch.committed is None and not batch.aborted:
                last.update((record.key, record.offset) for record in batch.read())
        kept = [batch for batch in dirty if self._clean(batch, last, drop_tombstones)]
        self._keep(kept + self.batches[len(dirty) :])

    @staticmethod
    def _clean(batch: LogBatch, last: dict[bytes | None, int], drop_tombstones: bool) -> bool:
        """Reduce a batch to what compaction keeps; False when nothing of it is left."""
        if batch.committed is not None or batch.aborted:
            return False
        batch.records = [
            record
            for record in batch.read()
            if last[record.key] == record.offset and not (drop_tombstones and record.value is None)
        ]
        return bool(batch.records)

    def _keep(self, batches: list[LogBatch]) -> None:
        self.batches = batches
        self._bases = [batch.base_offset for batch in batches]

    def _push(self, batch: LogBatch) -> None:
        batch.leader_epoch = self.leader_epoch
        self.batches.append(batch)
        self._bases.append(batch.base_offset)
        self.high_watermark = batch.last_offset + 1
        if not batch.transactional:
            self._announce()

    def _announce(self) -> None:
        if self.is_quiet:
            return
        watchers, self._watchers = self._watchers, []
        for callback in watchers:
            callback()

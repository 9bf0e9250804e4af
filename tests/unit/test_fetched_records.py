"""Fetched records of our own are, record by record and position by position, what aiokafka makes of the same bytes."""

from __future__ import annotations

import gc
import random
import struct
import weakref
from collections.abc import Callable, Collection
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import CorruptRecordException, KafkaConnectionError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from streamapp.client import fetch as fetches
from streamapp.client import member as members
from streamapp.client.leader_epochs import LeaderEpochs
from streamapp.engine.record import NO_TIMESTAMP, Record, records_of
from tests.support.batch_bytes import CHECKED, checked

TP = TopicPartition("transfer", 3)
_CONTROL, _APPEND_TIME = 0x20, 0x08
_ABORT, _COMMIT = 0, 1


def batch(
    base: int,
    offsets: list[int],
    *,
    producer: int = -1,
    transactional: bool = False,
    flags: int = 0,
    compression: int = 0,
    key: bytes | None = None,
    timestamp: int | None = None,
) -> bytes:
    """A batch as a broker stores it: `offsets` may have holes, as compaction leaves them."""
    builder = DefaultRecordBatchBuilder(2, compression, int(transactional), producer, 0, 0, 1 << 20)
    for offset in offsets:
        headers = [("id", b"%d" % offset), ("none", None)] if offset % 3 == 0 else []
        stamp = 1_700_000_000_000 + offset if timestamp is None else timestamp
        value = None if offset % 5 == 0 else b"value-%d" % offset
        builder.append(offset - base, stamp, key or (b"k%d" % offset if offset % 2 else None), value, headers)
    raw = bytearray(builder.build())
    struct.pack_into(">q", raw, 0, base)
    attributes = struct.unpack_from(">h", raw, CHECKED)[0] | flags
    struct.pack_into(">h", raw, CHECKED, attributes)
    return checked(raw)


def marker(base: int, producer: int, kind: int) -> bytes:
    return batch(base, [base], producer=producer, transactional=True, flags=_CONTROL, key=struct.pack(">hh", 0, kind))


def log(seed: int) -> tuple[bytes, list[tuple[int, int]], int]:
    """A stretch of a log, its aborted transactions, and the offset a fetch asked for, in the first batch or before."""
    drawn = random.Random(seed)
    raw, aborted, offset = b"", [], drawn.randrange(100)
    open_since: dict[int, int] = {}
    first: list[int] = []
    for _ in range(drawn.randrange(1, 12)):
        producer = drawn.choice([-1, 7, 8])
        if producer in open_since and drawn.random() < 0.5:
            kind = drawn.choice([_ABORT, _COMMIT])
            if kind == _ABORT:
                aborted.append((producer, open_since[producer]))
            del open_since[producer]
            raw += marker(offset, producer, kind)
            offset += 1
            continue
        span = list(range(offset, offset + drawn.randrange(1, 9)))
        kept = sorted({span[-1], *drawn.sample(span, drawn.randrange(len(span)))})
        is_open = producer > 0
        if is_open:
            open_since.setdefault(producer, offset)
        flags, gzip = drawn.choice([0, _APPEND_TIME]), drawn.choice([0, 1])
        raw += batch(offset, kept, producer=producer, transactional=is_open, flags=flags, compression=gzip)
        first = first or span
        offset = span[-1] + 1
    # What is still open lies above the last stable offset; a fetch of committed records ends below it.
    aborted.extend(open_since.items())
    return raw, aborted, drawn.choice(first or [0])


class Fetch:
    """One answered fetch, handed out by aiokafka's own `FetchResult`."""

    def __init__(
        self, raw: bytes, aborted: list[tuple[int, int]], asked: int, *, ours: bool, on_unreadable: Any = None
    ) -> None:
        subscriptions = SubscriptionState()
        subscriptions.assign_from_user([TP])
        assignment = subscriptions.subscription.assignment
        self.state = assignment.state_value(TP)
        self.state.seek(asked)
        records = PartitionRecords(TP, MemoryRecords(raw), list(aborted), asked, None, None, True, READ_COMMITTED)
        self.found = weakref.ref(records)
        self.result = FetchResult(TP, assignment=assignment, partition_records=records, backoff=0)
        if ours:
            results = fetches.FetchResults(on_unreadable=on_unreadable)
            results[TP] = self.result

    def take(self, most: int | None) -> list[tuple[Any, ...]]:
        return [
            (r.topic, r.partition, r.offset, r.timestamp, r.timestamp_type, r.key, r.value, r.headers)
            for r in self.result.getall(most)
        ]


@pytest.mark.parametrize("seed", range(200))
@pytest.mark.parametrize("most", [None, 1, 3])
async def test_they_are_what_aiokafka_makes_and_so_is_every_position(seed: int, most: int | None) -> None:
    stock, own = Fetch(*log(seed), ours=False), Fetch(*log(seed), ours=True)
    while True:
        expected, got = stock.take(most), own.take(most)
        assert got == expected, f"seed {seed}"
        assert own.state.position == stock.state.position, f"seed {seed}"
        assert own.result.has_more() == stock.result.has_more(), f"seed {seed}"
        if not own.result.has_more():
            break


@pytest.mark.parametrize("most", [None, 1], ids=["read to its end", "dropped half-way"])
async def test_a_fetch_is_let_go_of_with_its_last_reader(most: int | None) -> None:
    """Not when Python's collector comes by: until then each fetch would keep its bytes."""
    gc.disable()
    try:
        fetch = Fetch(batch(0, list(range(6))), [], 0, ours=True)
        held = [it for it in gc.get_referents(fetch.result._partition_records) if isinstance(it, PartitionRecords)]
        references = [fetch.found, *map(weakref.ref, held)]
        assert held and fetch.take(most)
        del fetch, held
        assert [it() for it in references] == [None, None]
    finally:
        gc.enable()


async def test_the_draws_hold_every_kind() -> None:
    kinds = set()
    for seed in range(200):
        raw, aborted, asked = log(seed)
        records = Fetch(raw, aborted, asked, ours=True).take(None)
        batches, markers = MemoryRecords(raw), 0
        while batches.has_next():
            markers += batches.next_batch().is_control_batch
        kinds.update({"aborted"} if aborted else (), {"marker"} if markers else (), {"none"} if not records else ())
        kinds.update({"within a batch"} if asked > MemoryRecords(raw).next_batch().base_offset else ())
    assert kinds == {"aborted", "marker", "none", "within a batch"}


async def test_what_was_fetched_before_a_seek_or_of_a_paused_partition_is_dropped() -> None:
    raw = batch(0, list(range(6)))
    sought, paused = (Fetch(raw, [], 0, ours=True) for _ in range(2))
    assert len(sought.take(2)) == len(paused.take(2)) == 2
    sought.state.seek(5)
    paused.state.pause()
    assert sought.take(2) == paused.take(2) == []
    assert not sought.result.has_more()
    assert not paused.result.has_more()
    assert (sought.state.position, paused.state.position) == (5, 2)


async def test_a_batch_that_does_not_match_its_checksum_is_refused() -> None:
    good, damaged = batch(0, [0, 1]), bytearray(batch(2, [2, 3]))
    damaged[-2] ^= 1
    fetch = Fetch(good + bytes(damaged), [], 0, ours=True)
    assert [record[2] for record in fetch.take(2)] == [0, 1]
    with pytest.raises(CorruptRecordException):
        fetch.take(2)
    assert fetch.state.position == 2


def with_odd_name(raw: bytes) -> bytes:
    """The batch with a header's name that is no UTF-8, as Kafka's broker takes it."""
    return checked(raw.replace(b"none", b"n\xff\xfee"))


async def test_a_fetch_ends_before_a_batch_with_a_header_whose_name_is_no_text_and_says_where() -> None:
    raw, told = batch(0, [0, 1]) + with_odd_name(batch(2, [2, 3])) + batch(4, [4]), []
    fetch = Fetch(raw, [], 0, ours=True, on_unreadable=lambda *at: told.append(at))
    assert [record[2] for record in fetch.take(None)] == [0, 1]
    assert told == [(TP, 2)]
    assert fetch.state.position == 2
    assert not fetch.result.has_more()


async def test_whoever_does_not_listen_gets_the_error() -> None:
    with pytest.raises(UnicodeDecodeError):
        Fetch(with_odd_name(batch(0, [0, 1])), [], 0, ours=True).take(None)


class Around:
    """A member before a batch that aiokafka cannot unpack; while that is fetched once more, `meanwhile` happens."""

    def __init__(self, meanwhile: Callable[[Around], None]) -> None:
        self.position, self.sought = 2, []
        self._meanwhile = meanwhile
        consumer = SimpleNamespace(_client=self, seek=lambda _, offset: self.sought.append(offset), getmany=self._none)
        self.cluster = SimpleNamespace(leader_for_partition=lambda _: 1)
        self.member = object.__new__(members.KafkaMember)  # without a consumer that would connect
        vars(self.member).update(_unreadable={TP: 2}, _warned=set(), _consumer=consumer, _epochs=LeaderEpochs("any"))
        vars(self.member).update(position=lambda _: self.position, assignment=lambda: {TP})

    async def send(self, node: int, request: Any) -> Any:
        self._meanwhile(self)
        return SimpleNamespace(topics=[(TP.topic, [(TP.partition, 0, 9, 9, [], with_odd_name(batch(2, [2, 3])))])])

    async def _none(self, *_: Any, **__: Any) -> Any:
        return {}

    async def fetched(self, full: Collection[Any] = ()) -> list[int]:
        fetched = await self.member._fetched(10, full)
        return [record.offset for record in fetched.get(TP, [])]


def moved(it: Around) -> None:
    it.position = 7


def unanswered(it: Around) -> None:
    raise KafkaConnectionError


async def test_a_batch_that_cannot_be_unpacked_is_read_by_us_unless_it_is_full_or_was_left_meanwhile() -> None:
    it = Around(lambda _: None)
    assert (await it.fetched([TP]), it.sought) == ([], [])
    assert (await it.fetched(), it.sought) == ([2, 3], [4])
    left = Around(moved)
    assert (await left.fetched(), left.sought) == ([], [])
    assert await left.fetched() == []
    assert left.member._unreadable == {}
    away = Around(unanswered)
    assert (await away.fetched(), away.sought) == ([], [])
    assert away.member._unreadable == {TP: 2}, "it is asked for again"


@pytest.mark.parametrize(("magic", "kind"), [(2, 0), (0, NO_TIMESTAMP)])
def test_a_record_without_a_time_says_so(magic: int, kind: int) -> None:
    """A producer's may have none, and one of the format before Kafka 0.10 never has."""
    if magic == 2:
        raw = batch(0, [0], timestamp=NO_TIMESTAMP)
    else:
        builder = LegacyRecordBatchBuilder(magic=0, compression_type=0, batch_size=1 << 10)
        builder.append(0, None, b"key", b"value")
        raw = bytes(builder.build())
    (record,) = records_of("transfer", 0, MemoryRecords(raw).next_batch(), 0)
    assert (record.timestamp, record.timestamp_type) == (NO_TIMESTAMP, kind)


def test_a_record_says_where_it_was() -> None:
    assert repr(Record("transfer", 3, 7, 0, None, None)) == "<Record transfer-3@7>"

"""A batch that we read ourselves gives what aiokafka gives; whatever is wrong with its bytes is said in one way."""

from __future__ import annotations

import random
import struct

import pytest
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from streamapp.client.raw_batch import read_batch
from streamapp.engine.record import NO_TIMESTAMP, Record, records_of
from tests.support.batch_bytes import CHECKED, checked

#: Where a batch has its largest timestamp.
_LARGEST = 35
_APPEND_TIME = 0x08


def drawn(seed: int) -> tuple[bytes, int]:
    """A batch, and the offset asked for within it."""
    chance = random.Random(seed)
    base = chance.choice([0, 7, 2**40])
    builder = DefaultRecordBatchBuilder(2, chance.randrange(5), 0, -1, -1, -1, 1 << 20)
    stamp = chance.choice([NO_TIMESTAMP, 0, 1_700_000_000_000])
    deltas = sorted(chance.sample(range(200), chance.randrange(1, 40)))
    for delta in deltas:
        key = chance.choice([None, b"", chance.randbytes(chance.randrange(300))])
        value = chance.choice([None, b"", chance.randbytes(chance.randrange(20_000))])
        names = ["id", "", "\u00e9\u4e16", "x" * 200]
        headers = [(chance.choice(names), chance.choice([None, b"", b"v"])) for _ in range(chance.randrange(3))]
        builder.append(delta, stamp if stamp == NO_TIMESTAMP else stamp + chance.randrange(-5, 5), key, value, headers)
    raw = bytearray(builder.build())
    struct.pack_into(">q", raw, 0, base)
    if chance.random() < 0.5:
        raw[CHECKED + 1] |= _APPEND_TIME
        struct.pack_into(">q", raw, _LARGEST, 1_800_000_000_000)
    return checked(raw), base + chance.choice([0, deltas[-1] // 2, deltas[-1]])


SLOTS = ("topic", "partition", "offset", "timestamp", "timestamp_type", "key", "value", "headers")


@pytest.mark.parametrize("seed", range(100))
def test_it_gives_what_aiokafka_gives(seed: int) -> None:
    raw, floor = drawn(seed)
    theirs = MemoryRecords(raw).next_batch()
    following = theirs.next_offset
    expected = records_of("transfer", 3, theirs, floor)
    got, behind = read_batch(raw + drawn(seed + 1)[0], "transfer", 3, floor)
    for ours, other in zip(got, expected, strict=True):
        assert [getattr(ours, it) for it in SLOTS] == [getattr(other, it) for it in SLOTS], f"seed {seed}"
    assert behind == following


def test_a_name_that_is_no_text_is_read_as_kafkas_client_reads_it() -> None:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
    builder.append(0, 5, b"key", b"value", [("name", b"\xff"), ("fine", None)])
    raw = checked(bytes(builder.build()).replace(b"name", b"n\xff\xfee"))
    with pytest.raises(UnicodeDecodeError):
        list(MemoryRecords(raw).next_batch())
    ((record,), following) = read_batch(raw, "transfer", 0, 0)
    assert record.headers == (("n\ufffd\ufffde", b"\xff"), ("fine", None))
    assert (record.key, record.value, record.timestamp, following) == (b"key", b"value", 5, 1)


@pytest.mark.parametrize("seed", range(60))
def test_damaged_bytes_are_refused_in_one_way(seed: int) -> None:
    """Also where the checksum is that of the damaged bytes, as a sender can make it."""
    chance = random.Random(seed)
    raw, floor = drawn(seed)
    for _ in range(50):
        damaged = bytearray(raw)
        for _ in range(chance.randrange(1, 4)):
            damaged[chance.randrange(CHECKED, len(damaged))] = chance.randrange(256)
        cut = bytes(damaged) if chance.random() < 0.7 else bytes(damaged[: chance.randrange(len(damaged))])
        whole = checked(cut) if len(cut) > CHECKED else cut
        try:
            records, _ = read_batch(whole, "transfer", 0, floor)
        except CorruptRecordException:
            continue
        assert all(type(record) is Record for record in records)


def test_a_wrong_checksum_and_an_older_format_are_refused() -> None:
    raw, floor = drawn(1)
    wrong = bytearray(raw)
    wrong[-1] ^= 1
    with pytest.raises(CorruptRecordException, match="CRC"):
        read_batch(bytes(wrong), "transfer", 0, floor)
    older = bytearray(raw)
    older[16] = 1
    with pytest.raises(CorruptRecordException, match="present format"):
        read_batch(bytes(older), "transfer", 0, floor)
    with pytest.raises(CorruptRecordException):
        read_batch(b"", "transfer", 0, 0)

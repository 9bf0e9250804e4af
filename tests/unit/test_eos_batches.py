"""Record batches and what is refused before it gets into one."""

from __future__ import annotations

import random

import pytest
from aiokafka.partitioner import murmur2 as their_murmur2
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from streamapp.eos import partitioner
from streamapp.eos.batches import Batch, Compression, record_bytes, refuse_record
from streamapp.eos.partitioner import murmur2, partition_of
from streamapp.eos.protocol import ProducerIdentity, TopicDescription
from streamapp.errors import RecordError
from streamapp.types import Partition

LEDGER = Partition("ledger", 0)
TOPIC = TopicDescription("ledger", partition_count=3, max_message_bytes=1000)
HOUR_MS = 3_600_000
NOW_MS = 1_700_000_000_000


def read(records: bytes) -> list[tuple[int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]]:
    batch = MemoryRecords(records).next_batch()
    assert batch.validate_crc()
    return [(one.timestamp, one.key, one.value, list(one.headers)) for one in batch]


def test_a_batch_carries_identity_sequence_and_records() -> None:
    batch = Batch(LEDGER, TOPIC, 1 << 20, "none")
    batch.append(5, b"k", b"v", [("h", b"x"), ("h", None)])
    batch.append(6, None, None, [])
    records = batch.close(ProducerIdentity(42, 7), 11)
    parsed = MemoryRecords(records).next_batch()
    assert (parsed.producer_id, parsed.producer_epoch, parsed.base_sequence) == (42, 7, 11)
    assert parsed.is_transactional
    assert read(records) == [(5, b"k", b"v", [("h", b"x"), ("h", None)]), (6, None, None, [])]


def test_a_batch_is_byte_for_byte_what_aiokafka_makes_of_the_same_records() -> None:
    """Lengths and deltas of every width, nulls, headers, times that go back; the leader epoch is the broker's."""
    chance = random.Random(20261128)
    widths = [0, 1, 63, 64, 8191, 8192, 70_000]
    for records in (1, 2, 65, 9000):
        batch = Batch(LEDGER, TopicDescription("ledger", partition_count=1), 1 << 30, "none")
        theirs = DefaultRecordBatchBuilder(2, 0, 1, 42, 7, 11, 1 << 30)
        for index in range(records):
            width = chance.choice(widths if records < 100 else widths[:3])
            key = chance.choice([None, b"", chance.randbytes(12)])
            value = None if chance.random() < 0.1 else chance.randbytes(width)
            headers = [("name", chance.choice([None, b"", b"x" * 70]))] * chance.choice([0, 0, 1, 3])
            stamp = NOW_MS + chance.choice([0, 0, 1, -1, -70, 100_000])
            size = theirs.append(index, stamp, key, value, headers).size
            assert batch.append(stamp, key, value, headers) == size
        ours, expected = bytearray(batch.close(ProducerIdentity(42, 7), 11)), theirs.build()
        ours[12:16] = expected[12:16]
        assert ours == expected, f"{records} records"


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_compression_is_undone(compression: Compression) -> None:
    batch = Batch(LEDGER, TopicDescription("ledger", partition_count=1), 1 << 20, compression)
    for _ in range(100):
        batch.append(5, b"key", b"value" * 10, [])
    records = batch.close(ProducerIdentity(1, 0), 0)
    assert [value for _, _, value, _ in read(records)] == [b"value" * 10] * 100
    assert compression == "none" or len(records) < 1000


def test_a_record_refused_by_type_leaves_the_batch_whole() -> None:
    batch = Batch(LEDGER, TOPIC, 1 << 20, "none")
    batch.append(5, b"k", b"before", [])
    with pytest.raises(TypeError):
        batch.append(5, "text", b"v", [])
    with pytest.raises((TypeError, AttributeError)):
        batch.append(5, b"k", b"v", [(3, b"x")])
    batch.append(5, b"k", b"after", [])
    assert [value for _, _, value, _ in read(batch.close(ProducerIdentity(1, 0), 0))] == [b"before", b"after"]


def test_a_full_batch_says_so_and_stays_within_the_topics_limit() -> None:
    batch = Batch(LEDGER, TOPIC, 1 << 20, "none")
    count = 0
    while batch.append(5, b"k", b"v" * 100, []):
        count += 1
    assert count > 1
    assert len(batch.close(ProducerIdentity(1, 0), 0)) <= TOPIC.max_message_bytes


def test_a_record_that_no_longer_fits_leaves_no_trace_in_the_batch() -> None:
    batch = Batch(LEDGER, TOPIC, 1 << 20, "none")
    while batch.append(5, b"k", b"v" * 100, []):
        pass
    assert not batch.append(NOW_MS, b"k", b"v" * 100, [])
    parsed = MemoryRecords(batch.close(ProducerIdentity(1, 0), 0)).next_batch()
    assert parsed.max_timestamp == 5


def test_the_largest_record_that_is_let_through_fits_the_topic() -> None:
    size = 0
    while record_bytes(b"k", b"v" * size, [("h", b"x")]) <= TOPIC.max_message_bytes:
        size += 1
    refuse_record(TOPIC, b"k", b"v" * (size - 1), [("h", b"x")], None, NOW_MS)
    with pytest.raises(RecordError, match=r"max\.message\.bytes"):
        refuse_record(TOPIC, b"k", b"v" * size, [("h", b"x")], None, NOW_MS)
    batch = Batch(LEDGER, TOPIC, 1 << 20, "none")
    batch.append(2**62, b"k", b"v" * (size - 1), [("h", b"x")])
    assert len(batch.close(ProducerIdentity(1, 0), 0)) <= TOPIC.max_message_bytes


def test_easy_bytes_are_never_too_many() -> None:
    batch = Batch(LEDGER, TOPIC, 1 << 20, "none")
    refuse_record(TOPIC, b"k" * 100, b"v" * (batch.easy_bytes - 100), [], None, NOW_MS)


def test_a_missing_key_is_refused_for_a_compacted_topic_only() -> None:
    refuse_record(TOPIC, None, b"v", [], None, NOW_MS)
    with pytest.raises(RecordError) as refusal:
        refuse_record(TOPIC._replace(compacted=True), None, b"v", [], None, NOW_MS)
    assert refusal.value.kind == "MissingKey"


@pytest.mark.parametrize("timestamp_ms", [-1, -5, NOW_MS + HOUR_MS + 1, NOW_MS - HOUR_MS - 1])
def test_timestamps_the_broker_would_refuse_are_refused(timestamp_ms: int) -> None:
    topic = TOPIC._replace(timestamp_after_max_ms=HOUR_MS, timestamp_before_max_ms=HOUR_MS)
    refuse_record(topic, b"k", b"v", [], NOW_MS, NOW_MS)
    with pytest.raises(RecordError) as refusal:
        refuse_record(topic, b"k", b"v", [], timestamp_ms, NOW_MS)
    assert refusal.value.kind == "BadTimestamp"


def test_append_time_topics_take_any_timestamp_but_a_negative_one() -> None:
    topic = TOPIC._replace(append_time=True, timestamp_after_max_ms=HOUR_MS, timestamp_before_max_ms=HOUR_MS)
    refuse_record(topic, b"k", b"v", [], 0, NOW_MS)
    refuse_record(topic, b"k", b"v", [], 2**62, NOW_MS)
    with pytest.raises(RecordError):
        refuse_record(topic, b"k", b"v", [], -1, NOW_MS)


def test_murmur2_agrees_with_kafkas_clients() -> None:
    chance = random.Random(2026)
    for length in range(200):
        key = chance.randbytes(length)
        assert murmur2(key) == their_murmur2(key) & 0xFFFFFFFF
    # Kafka's own UtilsTest, as unsigned numbers.
    assert murmur2(b"21") == -973932308 & 0xFFFFFFFF
    assert murmur2(b"foobar") == -790332482 & 0xFFFFFFFF


def test_keys_are_forgotten_before_their_memory_grows_without_bound() -> None:
    for number in range(70_000):
        key = str(number).encode()
        assert partition_of(key, 7) == (murmur2(key) & 0x7FFFFFFF) % 7
    assert len(getattr(partitioner, "_hashes", ())) <= 65_536

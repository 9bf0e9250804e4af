"""A single node that was killed, at whatever moment, is back at once, and ends what it had open in good order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streamapp.embedded import comeback, wire
from streamapp.embedded.kafka import Kafka

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

TOPIC, PARTITIONS = "lasting", 20
BOUND_S = 60.0


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[Kafka]:
    own = Kafka(tmp_path / "kafka", port=0, die_with_parent=True)
    own.start()
    try:
        admin = AdminClient({"bootstrap.servers": own.bootstrap})
        admin.create_topics([NewTopic(TOPIC, PARTITIONS)])[TOPIC].result(BOUND_S)
        yield own
    finally:
        own.kill()


def begun(kafka: Kafka, value: bytes, timeout_s: float = 10) -> Producer:
    """A transaction with a record in every partition, acknowledged and not ended."""
    timeout = {"transaction.timeout.ms": int(timeout_s * 1000)}
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": TOPIC, **timeout})
    producer.init_transactions(BOUND_S)
    producer.begin_transaction()
    for number in range(PARTITIONS):
        producer.produce(TOPIC, value, partition=number)
    assert producer.flush(BOUND_S) == 0
    return producer


def committed(kafka: Kafka) -> dict[int, list[bytes]]:
    """What every reader sees, once no transaction is open in any partition."""
    options = {"bootstrap.servers": kafka.bootstrap, "group.id": "none", "enable.partition.eof": True}
    found: dict[int, list[bytes]] = {number: [] for number in range(PARTITIONS)}
    ended: set[int] = set()
    until_ended(kafka)
    consumer = Consumer({**options, "isolation.level": "read_committed", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(TOPIC, number, 0) for number in range(PARTITIONS)])
        while len(ended) < PARTITIONS:
            message = consumer.poll(BOUND_S)
            assert message is not None
            if message.error() is None:
                found[message.partition() or 0].append(message.value() or b"")
            else:
                ended.add(message.partition() or 0)
        return found
    finally:
        consumer.close()


def until_ended(kafka: Kafka) -> None:
    give_up = time.monotonic() + BOUND_S
    while (ends := [high_watermark(kafka, it) for it in ("read_committed", "read_uncommitted")])[0] != ends[1]:
        assert time.monotonic() < give_up, f"transactions stay open: {ends}"
        time.sleep(0.2)


def high_watermark(kafka: Kafka, isolation: str) -> list[int]:
    """The end of each partition for such a reader; asked again while the leaders are new."""
    options = {"bootstrap.servers": kafka.bootstrap, "group.id": "none", "isolation.level": isolation}
    give_up = time.monotonic() + BOUND_S
    while True:
        consumer = Consumer(options)
        try:
            places = [TopicPartition(TOPIC, number) for number in range(PARTITIONS)]
            return [consumer.get_watermark_offsets(it, timeout=BOUND_S)[1] for it in places]
        except KafkaException:
            assert time.monotonic() < give_up
        finally:
            consumer.close()


def test_what_was_open_is_aborted_and_what_was_committed_stays(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    node = kafka.nodes[0]
    begun(kafka, b"first").commit_transaction(BOUND_S)
    open_ended = begun(kafka, b"open", timeout_s=1)
    node.kill()

    # Killed again in the middle of coming back: before it is forgotten, and with more and more of its start done.
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(wire, "unregister", interrupted)
        node.start()
    for later_s in (0.0, 0.7, 1.5):
        node.start()
        time.sleep(later_s)
        node.kill()
    node.start()
    kafka.wait_until_ready()
    del open_ended
    assert committed(kafka) == {number: [b"first"] for number in range(PARTITIONS)}
    begun(kafka, b"second").commit_transaction(BOUND_S)
    assert committed(kafka) == {number: [b"first", b"second"] for number in range(PARTITIONS)}


def test_one_that_ended_in_good_order_needs_no_controller_alone(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    def needed(*_: Any) -> None:
        raise AssertionError("it was not killed")

    monkeypatch.setattr(comeback, "forget_broker", needed)
    for _ in range(2):
        kafka.stop()
        kafka.start()
    begun(kafka, b"whole").commit_transaction(BOUND_S)
    assert committed(kafka) == {number: [b"whole"] for number in range(PARTITIONS)}

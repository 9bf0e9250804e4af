"""A consume-produce loop on librdkafka (confluent-kafka): state in a dictionary, a changelog that nothing reads."""

from __future__ import annotations

import os
import signal
import time

import msgspec
from confluent_kafka import Consumer, Producer

from bench.job import Leg, Transfer

INTERVAL_S = 0.1


def main() -> None:
    """Work until SIGTERM."""
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
    broker, group = os.environ["BENCH_BROKER"], os.environ["BENCH_GROUP"]
    output, changelog = os.environ["BENCH_OUTPUT"], os.environ["BENCH_CHANGELOG"]
    consumer = Consumer(
        {
            "bootstrap.servers": broker,
            "group.id": group,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": broker,
            "transactional.id": group,
            "transaction.timeout.ms": 10_000,
            "linger.ms": 5,
            "queue.buffering.max.messages": 1_000_000,
            "partitioner": "murmur2_random",
        }
    )
    producer.init_transactions()
    consumer.subscribe([os.environ["BENCH_SOURCE"]])
    decode, encode = msgspec.json.Decoder(Transfer).decode, msgspec.json.Encoder().encode
    seen: set[str] = set()
    while not stopping:
        producer.begin_transaction()
        due, any_read = time.monotonic() + INTERVAL_S, False
        while time.monotonic() < due:
            for message in consumer.consume(1000, 0.05):
                if message.error():
                    continue
                any_read = True
                transfer = decode(message.value())
                event_id = transfer.event_id
                if event_id in seen:
                    continue
                producer.produce(output, encode(Leg(event_id, transfer.src, -transfer.amount)), transfer.src)
                producer.produce(output, encode(Leg(event_id, transfer.dst, transfer.amount)), transfer.dst)
                seen.add(event_id)
                producer.produce(changelog, b"1", event_id, message.partition())
            producer.poll(0)
        if any_read:
            positions = [place for place in consumer.position(consumer.assignment()) if place.offset >= 0]
            producer.send_offsets_to_transaction(positions, consumer.consumer_group_metadata())
            producer.commit_transaction()
        else:
            producer.abort_transaction()
    consumer.close()


if __name__ == "__main__":
    main()

"""A consume-produce loop on aiokafka: state in a dictionary, a changelog that nothing reads."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from bench.job import Leg, Transfer

INTERVAL_S = 0.1


async def main() -> None:
    """Work until SIGTERM."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    broker, group = os.environ["BENCH_BROKER"], os.environ["BENCH_GROUP"]
    output, changelog = os.environ["BENCH_OUTPUT"], os.environ["BENCH_CHANGELOG"]
    consumer = AIOKafkaConsumer(
        os.environ["BENCH_SOURCE"],
        bootstrap_servers=broker,
        group_id=group,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=broker, transactional_id=group, transaction_timeout_ms=10_000, linger_ms=5
    )
    await producer.start()
    await consumer.start()
    decode, encode = msgspec.json.Decoder(Transfer).decode, msgspec.json.Encoder().encode
    seen: set[str] = set()
    while not stopping.is_set():
        await producer.begin_transaction()
        due, offsets = time.monotonic() + INTERVAL_S, {}
        while time.monotonic() < due:
            for place, messages in (await consumer.getmany(timeout_ms=50, max_records=1000)).items():
                for message in messages:
                    transfer = decode(message.value)
                    event_id = transfer.event_id
                    if event_id in seen:
                        continue
                    debit = Leg(event_id, transfer.src, -transfer.amount)
                    credit = Leg(event_id, transfer.dst, transfer.amount)
                    await producer.send(output, encode(debit), debit.account.encode())
                    await producer.send(output, encode(credit), credit.account.encode())
                    seen.add(event_id)
                    await producer.send(changelog, b"1", event_id.encode(), place.partition)
                offsets[place] = messages[-1].offset + 1
        if offsets:
            await producer.send_offsets_to_transaction(offsets, group)
            await producer.commit_transaction()
        else:
            await producer.abort_transaction()
    await consumer.stop()
    await producer.stop()


if __name__ == "__main__":
    asyncio.run(main())

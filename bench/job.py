"""The reference job: its input, and the check of what a program made of it.

A transfer is read, dropped if its id was seen before, and becomes two legs. One record in a hundred repeats an earlier
one, so that a program without state is found out. The check reads both topics with a client of its own: the legs of
every transfer below the committed offsets must be in the output, each once.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition

PARTITIONS = 4
#: One record in so many repeats an earlier one.
REPEAT_EVERY = 100
#: How far back the repeated one is.
REPEAT_DISTANCE = 50
_READ_BOUND_S = 60.0


class Transfer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What comes in. Its key is `src`."""

    event_id: str
    src: str
    dst: str
    amount: int
    #: Only there to make a record larger.
    note: str = ""


class Leg(msgspec.Struct, frozen=True):
    """What goes out, twice a transfer. Its key is `account`."""

    event_id: str
    account: str
    delta: int


class Verdict(NamedTuple):
    """What the output holds, measured against the input below the committed offsets."""

    legs: int
    duplicates: int
    halves: int
    missing: int
    #: Legs that no transfer below the committed offsets leads to.
    foreign: int

    def holds(self, exactly_once: bool) -> bool:
        """Whether the answer is right: nothing lost and nothing made up; exactly once, nothing twice or early too."""
        if self.missing or self.halves:
            return False
        return not (exactly_once and (self.duplicates or self.foreign))


def transfers(count: int, *, accounts: int = 1000, first: int = 0, padding: int = 0) -> Iterator[Transfer]:
    """The input, the same for every program and run: ids from `first` on, `padding` bytes more a record."""
    chance = random.Random(first + 1)  # noqa: S311 - it must be repeatable, not secret
    recent: list[Transfer] = []
    note = "x" * padding
    for number in range(first, first + count):
        if number % REPEAT_EVERY == REPEAT_EVERY - 1 and len(recent) >= REPEAT_DISTANCE:
            yield recent[-REPEAT_DISTANCE]
            continue
        source, target = chance.randrange(accounts), chance.randrange(accounts - 1)
        target += target >= source
        made = Transfer(f"e{number:09d}", f"a{source}", f"a{target}", chance.randint(1, 100), note)
        recent.append(made)
        if len(recent) > 2 * REPEAT_DISTANCE:
            del recent[:-REPEAT_DISTANCE]
        yield made


#: As it is sent.
encode = msgspec.json.Encoder().encode


def legs(transfer: Transfer) -> tuple[Leg, Leg]:
    """The debit and the credit."""
    return (
        Leg(transfer.event_id, transfer.src, -transfer.amount),
        Leg(transfer.event_id, transfer.dst, transfer.amount),
    )


def client(bootstrap: str) -> dict[str, str | int]:
    """A client's settings; what goes wrong is raised, and librdkafka need not say it as well."""
    return {"bootstrap.servers": bootstrap, "log_level": 1}


def load(bootstrap: str, topic: str, records: Iterator[Transfer], tell: Callable[[int], None] | None = None) -> int:
    """Send the input, acknowledged when this returns; the number of records."""
    producer = Producer(
        {
            **client(bootstrap),
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "linger.ms": 20,
            "batch.size": 1 << 18,
            "queue.buffering.max.messages": 100_000,
            "queue.buffering.max.kbytes": 128 << 10,
        }
    )
    count = 0
    for record in records:
        while True:
            try:
                producer.produce(topic, encode(record), record.src)
                break
            except BufferError:
                producer.poll(0.05)
        count += 1
        if not count % 1000:
            producer.poll(0)
            if tell is not None:
                tell(count)
    left = producer.flush(_READ_BOUND_S)
    if left:
        raise TimeoutError(f"{left:,} of {count:,} records of the input were not acknowledged in {_READ_BOUND_S:.0f} s")
    return count


def read(bootstrap: str, topic: str, until: Mapping[int, int] | None = None) -> dict[int, list[bytes]]:
    """The committed values of a topic by partition, up to its end or up to the offsets given.

    Raises `TimeoutError` when it is not to be had in a minute: a transaction was left open.
    """
    options = {**client(bootstrap), "group.id": "bench-reader", "enable.auto.commit": False}
    consumer = Consumer({**options, "isolation.level": "read_committed", "fetch.message.max.bytes": 4 << 20})
    try:
        numbers = sorted(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
        ends = until or {n: consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=10)[1] for n in numbers}
        found: dict[int, list[bytes]] = {number: [] for number in numbers}
        consumer.assign([TopicPartition(topic, number, 0) for number in numbers])
        give_up = time.monotonic() + _READ_BOUND_S
        while True:
            for message in consumer.consume(10_000, 0.1):
                if message.error() is None and message.offset() < ends[message.partition()]:
                    found[message.partition()].append(message.value())
            places = consumer.position([TopicPartition(topic, number) for number in numbers])
            if all(place.offset >= ends[place.partition] for place in places if ends[place.partition] > 0):
                return found
            if time.monotonic() > give_up:
                raise TimeoutError(f"{topic} was not readable up to its end: a transaction was left open")
    finally:
        consumer.close()


def check(bootstrap: str, source: str, output: str, committed: Mapping[int, int]) -> Verdict:
    """Compare an output with what the committed part of the input leads to."""
    decode_transfer, decode_leg = (
        msgspec.json.Decoder(Transfer).decode,
        msgspec.json.Decoder(Leg).decode,
    )
    expected: set[Leg] = set()
    for values in read(bootstrap, source, committed).values():
        for value in values:
            expected.update(legs(decode_transfer(value)))
    seen = Counter(decode_leg(value) for values in read(bootstrap, output).values() for value in values)
    return judge(expected, seen)


def judge(expected: set[Leg], seen: Counter[Leg]) -> Verdict:
    """The verdict over what should be there and how often each leg is."""
    total = seen.total()
    missing = expected - seen.keys()
    sides = Counter(leg.event_id for leg in seen)
    halves = sum(1 for count in sides.values() if count != 2)
    return Verdict(total, total - len(seen), halves, len(missing), len(seen.keys() - expected))

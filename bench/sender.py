"""Sends transfers, each with the time it was due in its id.

`python -m bench.sender BROKER TOPIC RATE` sends at a fixed rate. The time is when a record should have been sent, not
when it was, so a stall counts for all who wait behind it.

`python -m bench.sender BROKER TOPIC ahead GROUP PARTITIONS` keeps a bounded number of records ahead of what the group
has committed: as many as it can take, and no more. A record is due when it is sent.

Records are encoded before and go out ten milliseconds' worth together: on two cores a sender of many small requests,
and the broker that answers them, would take a third of the processors from what is measured. Ends by SIGTERM, or after
ten minutes.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from typing import Protocol

from confluent_kafka import Producer

from bench import job
from bench.place import Progress

_TICK_S = 0.005
_TOGETHER_MS = 10
_BOUND_S = 600.0
#: Before and behind the time in an id, which is 19 digits long for the next 260 years.
STAMP_AT, STAMP_DIGITS = 1, 19


class Pace(Protocol):
    """How many records are due, and since when. Times are ns since the sending began."""

    def count(self, now_ns: int, sent: int) -> int:
        """How many should have been sent by now, in all."""

    def due_ns(self, number: int, now_ns: int) -> int:
        """When this one was due."""


class Rate:
    """So many a second, whatever becomes of them."""

    def __init__(self, rate: float) -> None:
        self._rate = rate

    def count(self, now_ns: int, sent: int) -> int:
        return int(now_ns * self._rate / 1e9)

    def due_ns(self, number: int, now_ns: int) -> int:
        return int(number / self._rate * 1e9)


class Ahead:
    """A bounded number ahead of what a group has committed, and a bounded number at once."""

    #: Half a second's worth and more, so that the group never waits for a record.
    RECORDS = 40_000
    AT_ONCE = 500
    _ASK_NS = 50_000_000

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        # What is there already was not sent here.
        self._before = self._committed = progress.total()
        self._asked_ns = 0

    def count(self, now_ns: int, sent: int) -> int:
        if now_ns - self._asked_ns >= self._ASK_NS:
            self._committed, self._asked_ns = self._progress.total(), now_ns
        return min(self._committed - self._before + self.RECORDS, sent + self.AT_ONCE)

    def due_ns(self, number: int, now_ns: int) -> int:
        return now_ns


def send(broker: str, topic: str, pace: Pace) -> None:
    """Send until SIGTERM."""
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
    options = {"partitioner": "murmur2_random", "enable.idempotence": True, "linger.ms": _TOGETHER_MS}
    producer = Producer(job.client(broker) | options)
    # The same accounts and amounts as everywhere; ids of their own.
    records = [_parted(model) for model in job.transfers(10_000)]
    # The wall clock is read once: one that is set meanwhile makes no record due.
    began_ns, since, sent = time.time_ns(), time.monotonic_ns(), 0
    while not stopping and (now_ns := time.monotonic_ns() - since) < _BOUND_S * 1e9:
        count = max(sent, pace.count(now_ns, sent))
        for number in range(sent, count):
            head, tail, key = records[number % len(records)]
            due_ns = began_ns + pace.due_ns(number, now_ns)
            producer.produce(topic, b"%bt%0*d-%d%b" % (head, STAMP_DIGITS, due_ns, number, tail), key)
        sent = count
        producer.poll(0)
        time.sleep(_TICK_S)
    producer.flush(10)


def _parted(model: job.Transfer) -> tuple[bytes, bytes, str]:
    """A transfer's value before and behind its id, and its key."""
    head, tail = job.encode(model).split(model.event_id.encode(), 1)
    return head, tail, model.src


@contextlib.contextmanager
def _pace(broker: str, topic: str, words: tuple[str, ...]) -> Iterator[Pace]:
    match words:
        case ["ahead", group, partitions] if partitions.isdecimal():
            with Progress(broker, group, topic, int(partitions)) as progress:
                yield Ahead(progress)
        case [rate] if rate.replace(".", "", 1).isdecimal():
            yield Rate(float(rate))
        case _:
            sys.exit(f"usage:\n{__doc__}")


def main(broker: str = "", topic: str = "", *words: str) -> None:
    """Send at the pace these words name."""
    with _pace(broker, topic, words) as pace:
        send(broker, topic, pace)


if __name__ == "__main__":
    main(*sys.argv[1:])

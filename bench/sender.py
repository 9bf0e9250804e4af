"""Sends transfers at a fixed rate, each with the time it was due in its id: `python -m bench.sender BROKER TOPIC RATE`.

The time is when a record should have been sent, not when it was, so a stall counts for all who wait behind it. Records
are encoded before and go out ten milliseconds' worth together: on two cores a sender of many small requests, and the
broker that answers them, would take a third of the processors from what is measured. Ends by SIGTERM, or after ten
minutes.
"""

from __future__ import annotations

import signal
import sys
import time

from confluent_kafka import Producer

from bench import job

_TICK_S = 0.005
_TOGETHER_MS = 10
_BOUND_S = 600.0
#: Before and behind the time in an id, which is 19 digits long for the next 260 years.
STAMP_AT, STAMP_DIGITS = 1, 19


def main(broker: str, topic: str, rate: float) -> None:
    """Send until SIGTERM."""
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
    options = {"partitioner": "murmur2_random", "enable.idempotence": True, "linger.ms": _TOGETHER_MS}
    producer = Producer(job.client(broker) | options)
    # The same accounts and amounts as everywhere; ids of their own.
    records = [_parted(model) for model in job.transfers(10_000)]
    began, began_ns, sent = time.monotonic(), time.time_ns(), 0
    while not stopping and (passed := time.monotonic() - began) < _BOUND_S:
        for number in range(sent, int(passed * rate)):
            head, tail, key = records[number % len(records)]
            due_ns = began_ns + int(number / rate * 1e9)
            producer.produce(topic, b"%bt%0*d-%d%b" % (head, STAMP_DIGITS, due_ns, number, tail), key)
        sent = max(sent, int(passed * rate))
        producer.poll(0)
        time.sleep(_TICK_S)
    producer.flush(10)


def _parted(model: job.Transfer) -> tuple[bytes, bytes, str]:
    """A transfer's value before and behind its id, and its key."""
    head, tail = job.encode(model).split(model.event_id.encode(), 1)
    return head, tail, model.src


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))

"""Sends transfers at a fixed rate, each with the time it was due in its id: `python -m bench.sender BROKER TOPIC RATE`.

The time is when a record should have been sent, not when it was, so a stall counts for all who wait behind it. It ends
by SIGTERM, or after ten minutes.
"""

from __future__ import annotations

import signal
import sys
import time

from confluent_kafka import Producer

from bench import job

_TICK_S = 0.005
_BOUND_S = 600.0
#: Before and behind the time in an id, which is 19 digits long for the next 260 years.
STAMP_AT, STAMP_DIGITS = 1, 19


def main(broker: str, topic: str, rate: float) -> None:
    """Send until SIGTERM."""
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
    options = {"partitioner": "murmur2_random", "enable.idempotence": True, "linger.ms": 1}
    producer = Producer(job.client(broker) | options)
    # The same accounts and amounts as everywhere; ids of their own.
    models = list(job.transfers(10_000))
    began, began_ns, sent = time.monotonic(), time.time_ns(), 0
    while not stopping and (passed := time.monotonic() - began) < _BOUND_S:
        for number in range(sent, int(passed * rate)):
            model = models[number % len(models)]
            due_ns = began_ns + int(number / rate * 1e9)
            record = job.Transfer(f"t{due_ns:0{STAMP_DIGITS}d}-{number}", model.src, model.dst, model.amount)
            producer.produce(topic, job.encode(record), record.src)
        sent = max(sent, int(passed * rate))
        producer.poll(0)
        time.sleep(_TICK_S)
    producer.flush(10)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))

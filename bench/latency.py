"""End-to-end latency at half of a program's capacity: from when a record was due to be sent until its legs are read.

The reader is a plain client with `read_committed`, as a user of the output would be.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition

from bench import job
from bench.deployment import Deployment
from bench.peers.catalogue import Peer
from bench.place import Place
from bench.process import Process
from bench.rounds import START_BOUND_S, OnProgress, until_committed
from bench.sender import STAMP_AT, STAMP_DIGITS
from streamapp.errors import StreamAppError

#: Seconds at the fixed rate before the measurement, and of it.
SETTLE_S, MEASURE_S = 6.0, 15.0
#: Records in a hurry before, so that a JVM's compiler has seen the code.
WARM = 100_000
_WARM_S = 15.0


class Latency(msgspec.Struct):
    """A round: milliseconds of all legs that were due in the measured time."""

    peer: str
    number: int
    rate: float
    legs: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None
    p999_ms: float | None = None
    max_ms: float | None = None
    #: Why there is no figure.
    problem: str | None = None


def measure(
    place: Place, peer: Peer, number: int, rate: float, directory: Path, partitions: int, on_progress: OnProgress
) -> Latency:
    """One round of `peer` at `rate` transfers/s."""
    source = f"bench-latency-{peer.name}-{number}-{os.getpid()}"
    directory = directory.resolve()
    place.create(source, partitions=partitions)
    try:
        job.load(place.bootstrap, source, job.transfers(WARM))
        with (
            Deployment(place, peer, f"latency-{number}", directory, source, partitions) as it,
            it.progress() as progress,
            it.start() as program,
        ):
            until_committed(program, progress, 1, START_BOUND_S, on_progress)
            until_committed(program, progress, WARM, _WARM_S, on_progress)
            command = [sys.executable, "-m", "bench.sender", place.bootstrap, source, str(rate)]
            with Process(command, {}, directory / "sender.log") as sender:
                found = _read(place.bootstrap, it.output, partitions, program, on_progress)
                sender.stop()
            program.stop()
        return _latency(peer.name, number, rate, found)
    except (StreamAppError, TimeoutError, KafkaException) as exc:
        return Latency(peer.name, number, rate, problem=str(exc))
    finally:
        place.remove(source)


def _read(bootstrap: str, output: str, partitions: int, program: Process, on_progress: OnProgress) -> list[int]:
    """The latencies, ns, of the legs due in the measured time."""
    options = {"group.id": "bench-latency", "isolation.level": "read_committed", "enable.auto.commit": False}
    consumer = Consumer(job.client(bootstrap) | options | {"auto.offset.reset": "latest"})
    try:
        # From the end as it is now: the warm-up's legs are of no interest.
        places = [TopicPartition(output, number) for number in range(partitions)]
        for place in places:
            place.offset = consumer.get_watermark_offsets(place, timeout=10)[1]
        consumer.assign(places)
        first_ns = time.time_ns() + int(SETTLE_S * 1e9)
        last_ns = first_ns + int(MEASURE_S * 1e9)
        found: list[int] = []
        stamp = slice(len('{"event_id":"') + STAMP_AT, len('{"event_id":"') + STAMP_AT + STAMP_DIGITS)
        # Legs that were due at the end may take a while; what never comes is missing in the count.
        while time.time_ns() < last_ns + 3_000_000_000:
            program.require_alive()
            for message in consumer.consume(200, 0.002):
                value = message.value()
                if message.error() is not None or value[len('{"event_id":"') : stamp.start] != b"t":
                    continue
                due_ns = int(value[stamp])
                if first_ns <= due_ns < last_ns:
                    found.append(time.time_ns() - due_ns)
            on_progress(len(found))
        return found
    finally:
        consumer.close()


def _latency(peer: str, number: int, rate: float, found: list[int]) -> Latency:
    expected = rate * MEASURE_S * 2
    result = Latency(peer, number, rate, len(found))
    if len(found) < 0.99 * expected:
        result.problem = f"{len(found):,} of {expected:,.0f} legs came: the rate is above its capacity here"
        return result
    found.sort()
    result.p50_ms, result.p99_ms, result.p999_ms = (percentile(found, share) / 1e6 for share in (0.5, 0.99, 0.999))
    result.max_ms = found[-1] / 1e6
    return result


def percentile(ordered: list[int], share: float) -> int:
    """The smallest value that at least this share of the values is not above."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]

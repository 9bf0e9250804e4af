"""The legs that a program writes while a sender sends and a reader reads: when each was due, when it was read.

The reader is a plain client with `read_committed`, as a user of the output would be. Sender, broker and reader share
the processors with the program, so whatever is found here is found with them at work.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from bench import job
from bench.deployment import Deployment
from bench.peers.catalogue import Peer
from bench.place import Place
from bench.process import Process
from bench.rounds import START_BOUND_S, OnProgress, until_committed
from bench.sender import STAMP_AT, STAMP_DIGITS
from streamapp.errors import StreamAppError

#: Records in a hurry before, so that a JVM's compiler has seen the code.
WARM = 100_000
_WARM_S = 15.0
#: Legs that were due at the end may take a while; what never comes is missing in the count.
_LATE_NS = 3_000_000_000
_TELL_NS = 250_000_000
_BEFORE = len('{"event_id":"')
_STAMP = slice(_BEFORE + STAMP_AT, _BEFORE + STAMP_AT + STAMP_DIGITS)


class Legs:
    """What was read, in order; times in ns since 1970. The span is the time that is measured."""

    def __init__(self, first_ns: int, last_ns: int) -> None:
        self.first_ns, self.last_ns = first_ns, last_ns
        self._batches: list[tuple[int, list[bytes]]] = []
        self.count = 0

    def latencies(self) -> list[int]:
        """ns from due to read, of the legs that were due in the span; sorted."""
        return sorted(read - due for due, read in self._times() if self.first_ns <= due < self.last_ns)

    def arrived(self) -> int:
        """How many were read in the span."""
        return sum(self.first_ns <= read < self.last_ns for _, read in self._times())

    def take(self, values: list[bytes], read_ns: int) -> None:
        """Keep what was read together. It is looked at afterwards: until then the reader takes as little as it can."""
        self._batches.append((read_ns, values))
        self.count += len(values)

    def _times(self) -> Iterator[tuple[int, int]]:
        """(due, read) of each leg but those of the warm-up, which carry no time."""
        for read_ns, values in self._batches:
            for value in values:
                if value[_BEFORE : _STAMP.start] == b"t":
                    yield int(value[_STAMP]), read_ns


def seen(
    place: Place,
    peer: Peer,
    label: str,
    rate: float | None,
    span_s: tuple[float, float],
    directory: Path,
    partitions: int,
    on_progress: OnProgress,
) -> Legs:
    """Run `peer`, warmed up, on what a sender sends; `span_s`: seconds before the measured time, and of it.

    `rate`: transfers/s, or None for a sender that keeps ahead of the program (`bench.sender`). Raises `StreamAppError`,
    `TimeoutError` and `KafkaException` when the program or the broker failed.
    """
    source = f"bench-{label}-{peer.name}-{os.getpid()}"
    directory = directory.resolve()
    place.create(source, partitions=partitions)
    try:
        job.load(place.bootstrap, source, job.transfers(WARM))
        with (
            Deployment(place, peer, label, directory, source, partitions) as it,
            it.progress() as progress,
            it.start() as program,
        ):
            if not until_committed(program, progress, 1, START_BOUND_S, on_progress):
                raise StreamAppError(f"no commit within {START_BOUND_S:.0f} s of its start")
            until_committed(program, progress, WARM, _WARM_S, on_progress)
            pace = ["ahead", it.group, str(partitions)] if rate is None else [str(rate)]
            command = [sys.executable, "-m", "bench.sender", place.bootstrap, source, *pace]
            with Process(command, {}, directory / "sender.log") as sender:
                legs = _read(place.bootstrap, it.output, partitions, span_s, [program, sender], on_progress)
                sender.stop()
            program.stop()
        return legs
    finally:
        place.remove(source)


def _read(
    bootstrap: str,
    output: str,
    partitions: int,
    span_s: tuple[float, float],
    alive: list[Process],
    on_progress: OnProgress,
) -> Legs:
    options = {"group.id": "bench-latency", "isolation.level": "read_committed", "enable.auto.commit": False}
    consumer = Consumer(job.client(bootstrap) | options | {"auto.offset.reset": "latest"})
    try:
        # From the end as it is now: the warm-up's legs are of no interest.
        places = [TopicPartition(output, number) for number in range(partitions)]
        for place in places:
            place.offset = consumer.get_watermark_offsets(place, timeout=10)[1]
        consumer.assign(places)
        before_s, measured_s = span_s
        first_ns = time.time_ns() + int(before_s * 1e9)
        legs = Legs(first_ns, first_ns + int(measured_s * 1e9))
        now_ns = told_ns = time.time_ns()
        while now_ns < legs.last_ns + _LATE_NS:
            messages = consumer.consume(200, 0.002)
            now_ns = time.time_ns()
            if messages:
                legs.take([message.value() for message in messages if message.error() is None], now_ns)
            if now_ns - told_ns > _TELL_NS:
                told_ns = now_ns
                for process in alive:
                    process.require_alive()
                on_progress(legs.count)
        return legs
    finally:
        consumer.close()

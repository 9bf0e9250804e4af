"""A worker's memory over two million events: flat, and a leak planted on purpose is seen.

Flat: behind the warm-up (what a client buffers, and what libraries keep), the straight line through the samples of
memory rises by at most `FLAT` bytes an event. RocksDB's filters and index take 2 to 3 bytes a key for good, and each
transfer (three events) leaves two marks in the inbox; one forgotten object of Python an event is 50 bytes and more.
Memory is what is resident less RocksDB's block cache and memtables, which have a bound of their own: the cache fills
for longer than any warm-up (a block for each look-up that a filter lets pass in vain), and stops there.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import NamedTuple

from campaign.worker import Worker
from proofs.finding import Finding
from proofs.ground import Ground, Use, broker, say, use_of

#: A transfer is three events: itself, and its two legs as the balances' agent reads them.
EVENTS_A_TRANSFER = 3
EVENTS, WARM_UP = 2_000_000, 600_000
#: The leak is looked for over fewer, and beside what the clean worker took for the same.
LEAKING_EVENTS, LEAKING_WARM_UP = 450_000, 150_000
FLAT = 24.0
_MIB = 1 << 20
#: 64 of each, and a little: memtables may pass theirs while they are being written out.
_BOUNDED_MIB = 140
_SAMPLE_S, _STALLS_S = 0.5, 60.0
#: What the input may be ahead, so that the broker's page cache and the disk are all that is full.
_AHEAD = 60_000

#: A worker that says what RocksDB's cache and memtables hold.
_TELLING = """
import os, threading, time
from streamapp.state.options import SharedMemory
made, init = [], SharedMemory.__init__
def noting(self, *arguments, **options):
    init(self, *arguments, **options)
    made.append(self)
SharedMemory.__init__ = noting
def tell():
    while True:
        with open("told.new", "w") as file:
            file.write(str(sum(it.cache.get_usage() + it.write_buffers.get_usage() for it in made)))
        os.replace("told.new", "told")
        time.sleep(0.2)
threading.Thread(target=tell, daemon=True).start()
"""
_WORKING = """
from streamapp.cli.main import main
main()
"""
#: A worker that keeps 64 bytes of each event, as a forgotten dictionary entry would.
_LEAKING = """
from streamapp.engine.group import GroupConsumer
kept, hand_over = [], GroupConsumer._hand_over
def leaking(self, fetched):
    kept.extend(bytes(64) for records in fetched.values() for _ in records)
    return hand_over(self, fetched)
GroupConsumer._hand_over = leaking
"""


class Sample(NamedTuple):
    """After so many events."""

    events: int
    use: Use
    #: In RocksDB's cache and memtables.
    bounded_bytes: int

    @property
    def free_bytes(self) -> int:
        """Resident, and bounded by nothing but the program's care."""
        return self.use.resident_bytes - self.bounded_bytes


def run(directory: Path) -> list[Finding]:
    """About five minutes."""
    with broker(directory) as cluster:
        clean = _samples(Ground(cluster, directory / "clean", "size-memory"), EVENTS)
        leaking = _samples(Ground(cluster, directory / "leaking", "size-leak"), LEAKING_EVENTS, _LEAKING)
    behind = [it for it in clean if it.events >= WARM_UP]
    rise = slope(behind)
    early = slope([it for it in clean if LEAKING_WARM_UP <= it.events <= LEAKING_EVENTS])
    caught = slope([it for it in leaking if it.events >= LEAKING_WARM_UP])
    first, last = behind[0], behind[-1]
    most = max(it.bounded_bytes for it in clean)
    at = f"after {first.events:,} events and at the end"
    return [
        Finding(
            f"memory of a worker over {clean[-1].events:,} events, without RocksDB's cache and memtables",
            rise, "bytes/event", FLAT,
            note=f"{_mib(first.free_bytes)} and {_mib(last.free_bytes)} MiB {at}, {len(behind)} samples",
        ),
        Finding(
            "RocksDB's cache and memtables at their most", most / _MIB, "MiB", _BOUNDED_MIB,
            note=f"{_mib(first.bounded_bytes)} and {_mib(last.bounded_bytes)} MiB {at}; with them "
            f"{_mib(first.use.resident_bytes)} and {_mib(last.use.resident_bytes)} MiB are resident",
        ),
        Finding(
            "what a leak of 64 bytes an event, planted on purpose, adds to that", caught - early, "bytes/event", FLAT,
            more_is_better=True,
            note=f"{LEAKING_WARM_UP:,} to {LEAKING_EVENTS:,} events: {caught:.1f} with it, {early:.1f} without",
        ),
        Finding(
            "threads more at the end than behind the warm-up", last.use.threads - first.use.threads, "", 0,
            note=f"open files {first.use.files} then, {last.use.files} at the end: RocksDB keeps its tables open",
        ),
    ]  # fmt: skip


def slope(samples: list[Sample]) -> float:
    """Bytes an event: least squares."""
    if len(samples) < 10:
        raise ValueError(f"{len(samples)} samples say nothing")
    mean_x = sum(it.events for it in samples) / len(samples)
    mean_y = sum(it.free_bytes for it in samples) / len(samples)
    over = sum((it.events - mean_x) * (it.free_bytes - mean_y) for it in samples)
    return over / sum((it.events - mean_x) ** 2 for it in samples)


def _samples(ground: Ground, events: int, spoiled: str = "") -> list[Sample]:
    """Feed and work until so many events are committed, looking at the worker all the while."""
    total = events // EVENTS_A_TRANSFER
    ground.send(_AHEAD)
    worker = ground.worker("one", "state", program=(sys.executable, "-c", _TELLING + spoiled + _WORKING))
    samples: list[Sample] = []
    moved, told = time.monotonic(), time.monotonic()
    try:
        while (done := _events(ground)) < total * EVENTS_A_TRANSFER:
            if not samples or done > samples[-1].events:
                samples.append(_sample(ground, worker, done))
                moved = time.monotonic()
            if worker.exit_code is not None or time.monotonic() - moved > _STALLS_S:
                raise TimeoutError(f"it stands at {done:,} events: {worker.tail()}")
            if (consumed := ground.consumed()) + _AHEAD > ground.sent and ground.sent < total:
                ground.send(min(_AHEAD // 2, total - ground.sent))
            if time.monotonic() - told > 10:
                told = time.monotonic()
                say(f"{done:,} of {events:,} events, {consumed:,} transfers, {_told(samples[-1])}")
            time.sleep(_SAMPLE_S)
        samples.append(_sample(ground, worker, done))
    finally:
        ground.close()
    return samples


def _sample(ground: Ground, worker: Worker, done: int) -> Sample:
    told = ground.directory / "state" / "told"
    return Sample(done, use_of(worker), int(told.read_text()) if told.exists() else 0)


def _told(sample: Sample) -> str:
    use, bounded = sample.use, sample.bounded_bytes
    mib = f"{_mib(use.resident_bytes)} MiB with {_mib(bounded)} of cache and memtables"
    return f"{mib}, {use.threads} threads, {use.files} files"


def _mib(count: int) -> str:
    return f"{count / _MIB:.0f}"


def _events(ground: Ground) -> int:
    """Committed events of both inputs; their control records count as the offsets they take."""
    return ground.consumed() + sum(ground.offsets("balances").values())

"""A worker's memory over two million events: flat, and a leak planted on purpose is seen.

Flat: behind the warm-up (caches, memtables, what a client buffers), the straight line through the samples of resident
memory rises by at most `FLAT` bytes an event. RocksDB's filters and index take 2 to 3 bytes a key for good, and each
transfer (three events) leaves two marks in the inbox; one forgotten object of Python an event is 50 bytes and more.
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
_SAMPLE_S, _STALLS_S = 0.5, 60.0
#: What the input may be ahead, so that the broker's page cache and the disk are all that is full.
_AHEAD = 60_000

#: A worker that keeps 64 bytes of each event, as a forgotten dictionary entry would.
_LEAKING = """
from streamapp.driver.task import Task
kept, add = [], Task.add
def leaking(self, partition, records):
    kept.extend(bytes(64) for _ in records)
    return add(self, partition, records)
Task.add = leaking
from streamapp.cli.main import main
main()
"""


class Sample(NamedTuple):
    """After so many events."""

    events: int
    use: Use


def run(directory: Path) -> list[Finding]:
    """About four minutes."""
    with broker(directory) as cluster:
        clean = _samples(Ground(cluster, directory / "clean", "size-memory"), EVENTS)
        leaking = _samples(
            Ground(cluster, directory / "leaking", "size-leak"), LEAKING_EVENTS, (sys.executable, "-c", _LEAKING)
        )
    behind = [it for it in clean if it.events >= WARM_UP]
    rise = slope(behind)
    early = slope([it for it in clean if LEAKING_WARM_UP <= it.events <= LEAKING_EVENTS])
    caught = slope([it for it in leaking if it.events >= LEAKING_WARM_UP])
    first, last = behind[0].use, behind[-1].use
    mib = f"{first.resident_bytes / 2**20:.0f} MiB after {behind[0].events:,} events, {last.resident_bytes / 2**20:.0f}"
    return [
        Finding(
            f"memory of a worker over {clean[-1].events:,} events", rise, "bytes/event", FLAT,
            note=f"{mib} at the end, {len(behind)} samples",
        ),
        Finding(
            "what a leak of 64 bytes an event, planted on purpose, adds to that", caught - early, "bytes/event", FLAT,
            more_is_better=True,
            note=f"{LEAKING_WARM_UP:,} to {LEAKING_EVENTS:,} events: {caught:.1f} with it, {early:.1f} without",
        ),
        Finding(
            "threads more at the end than behind the warm-up", last.threads - first.threads, "", 0,
            note=f"open files {first.files} then, {last.files} at the end: RocksDB keeps its tables open",
        ),
    ]  # fmt: skip


def slope(samples: list[Sample]) -> float:
    """Bytes an event: least squares."""
    if len(samples) < 10:
        raise ValueError(f"{len(samples)} samples say nothing")
    mean_x = sum(it.events for it in samples) / len(samples)
    mean_y = sum(it.use.resident_bytes for it in samples) / len(samples)
    over = sum((it.events - mean_x) * (it.use.resident_bytes - mean_y) for it in samples)
    return over / sum((it.events - mean_x) ** 2 for it in samples)


def _samples(ground: Ground, events: int, program: tuple[str, ...] = ()) -> list[Sample]:
    """Feed and work until so many events are committed, looking at the worker all the while."""
    total = events // EVENTS_A_TRANSFER
    ground.send(_AHEAD)
    worker = ground.worker("one", "state", program=program)
    samples: list[Sample] = []
    moved, told = time.monotonic(), time.monotonic()
    try:
        while (done := _events(ground)) < total * EVENTS_A_TRANSFER:
            if not samples or done > samples[-1].events:
                samples.append(Sample(done, use_of(worker)))
                moved = time.monotonic()
            if worker.exit_code is not None or time.monotonic() - moved > _STALLS_S:
                raise TimeoutError(f"it stands at {done:,} events: {worker.tail()}")
            if (consumed := ground.consumed()) + _AHEAD > ground.sent and ground.sent < total:
                ground.send(min(_AHEAD // 2, total - ground.sent))
            if time.monotonic() - told > 10:
                told = time.monotonic()
                say(f"{done:,} of {events:,} events, {consumed:,} transfers, {_told(worker)}")
            time.sleep(_SAMPLE_S)
        samples.append(Sample(done, use_of(worker)))
    finally:
        ground.close()
    return samples


def _told(worker: Worker) -> str:
    use = use_of(worker)
    return f"{use.resident_bytes / 2**20:.0f} MiB, {use.threads} threads, {use.files} files"


def _events(ground: Ground) -> int:
    """Committed events of both inputs; their control records count as the offsets they take."""
    return ground.consumed() + sum(ground.offsets("balances").values())

"""One round: a program does the reference job, is measured from outside, and its answer is checked.

The clock runs from the first committed offset behind the warm-up to the last one, so starting is not in it and every
program is measured by the same thing: what Kafka says is committed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec
from confluent_kafka import KafkaException

from bench import job
from bench.deployment import Deployment
from bench.peers.catalogue import Peer
from bench.place import Place, Progress
from bench.process import Usage
from streamapp.errors import StreamAppError

POLL_S = 0.02
#: Longest wait for the first commit: a JVM's start, a group's first generation.
START_BOUND_S = 60.0

#: Told how many transfers are committed.
OnProgress = Callable[[int], None]


class Load(msgspec.Struct, frozen=True):
    """How much a round does: whatever comes first, the records or the seconds."""

    source: str
    partitions: int
    warm: int
    measured: int
    warm_s: float = 8.0
    measured_s: float = 20.0

    @property
    def records(self) -> int:
        """Of a round, with its warm-up."""
        return self.warm + self.measured


class Round(msgspec.Struct):
    """What a round gave. `problem` says why it has no speed; `rate` is then null."""

    peer: str
    number: int
    transfers: int = 0
    seconds: float = 0.0
    rate: float | None = None
    cpu_s_per_million: float | None = None
    peak_mib: float = 0.0
    verdict: job.Verdict | None = None
    problem: str | None = None
    #: Of a wrong answer: the rate it was given at.
    wrong_rate: float | None = None


class Program(Protocol):
    """A process, or several that work as one group."""

    def require_alive(self) -> None: ...

    def usage(self) -> Usage: ...

    def stop(self) -> None: ...


def run(place: Place, peer: Peer, number: int, directory: Path, load: Load, on_progress: OnProgress) -> Round:
    """One round; what goes wrong in the program is in the result."""
    result = Round(peer.name, number)
    try:
        with (
            Deployment(place, peer, str(number), directory, load.source, load.partitions) as it,
            it.progress() as progress,
            it.start() as program,
        ):
            measure(result, program, progress, load, on_progress)
            program.stop()
            judge(result, peer, job.check(place.bootstrap, load.source, it.output, progress.offsets()))
    except (StreamAppError, TimeoutError, KafkaException) as exc:
        result.problem, result.rate = str(exc), None
    return result


def measure(result: Round, program: Program, progress: Progress, load: Load, on_progress: OnProgress) -> None:
    """Fill in count, seconds, CPU and memory."""
    first = until_committed(program, progress, 1, START_BOUND_S, on_progress)
    if first == 0:
        raise StreamAppError(f"no commit within {START_BOUND_S:.0f} s of its start")
    warmed = until_committed(program, progress, load.warm, load.warm_s, on_progress)
    began, used = time.monotonic(), program.usage()
    done = until_committed(program, progress, load.warm + load.measured, load.measured_s, on_progress)
    result.seconds = time.monotonic() - began
    after = program.usage()
    result.transfers = done - warmed
    result.peak_mib = after.peak_mib
    if result.transfers <= 0:
        raise StreamAppError(f"no commit within {load.measured_s:.0f} s after {warmed:,} transfers")
    result.rate = result.transfers / result.seconds
    result.cpu_s_per_million = (after.cpu_s - used.cpu_s) / result.transfers * 1e6


def until_committed(program: Program, progress: Progress, count: int, bound_s: float, on_progress: OnProgress) -> int:
    """Wait until so many are committed, or for `bound_s`; how many are then."""
    give_up = time.monotonic() + bound_s
    while True:
        done = progress.total()
        on_progress(done)
        if done >= count or time.monotonic() > give_up:
            return done
        program.require_alive()
        time.sleep(POLL_S)


def judge(result: Round, peer: Peer, verdict: job.Verdict) -> None:
    """A wrong answer has no speed."""
    result.verdict = verdict
    if not verdict.holds(peer.exactly_once):
        result.problem = f"wrong answer: {verdict}"
        result.rate, result.wrong_rate = None, result.rate

"""One round: a program does the reference job, is measured from outside, and its answer is checked.

The clock runs from the first committed offset behind the warm-up to the last one, so starting is not in it and every
program is measured by the same thing: what Kafka says is committed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from bench import job
from bench.peers.catalogue import Peer
from bench.place import Place, Progress
from bench.process import Process
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


class Runner:
    """Runs rounds on one broker, in a directory that is emptied after each."""

    def __init__(self, place: Place, directory: Path, load: Load) -> None:
        self._place = place
        self._directory = directory.resolve()
        self._load = load
        self._commands: dict[str, list[str]] = {}

    @property
    def records(self) -> int:
        """Of a round, with its warm-up."""
        return self._load.warm + self._load.measured

    def run(self, peer: Peer, number: int, on_progress: OnProgress) -> Round:
        """One round; what goes wrong in the program is in the result."""
        group = f"bench-{peer.name}-{number}-{os.getpid()}"
        output = f"{group}-out"
        directory = self._directory / group
        directory.mkdir(parents=True)
        result = Round(peer.name, number)
        try:
            self._place.create(output, f"{group}-log", partitions=self._load.partitions)
            with Progress(self._place.bootstrap, group, self._load.source, self._load.partitions) as progress:
                with Process(self._command(peer), self._environment(peer, group, directory), directory / "log") as it:
                    _measure(result, it, progress, self._load, on_progress)
                    it.stop()
                verdict = job.check(self._place.bootstrap, self._load.source, output, progress.offsets())
            _judge(result, peer, verdict)
        except (StreamAppError, TimeoutError) as exc:
            result.problem, result.rate = str(exc), None
        finally:
            with contextlib.suppress(OSError):
                shutil.copy(directory / "log", self._directory / f"{peer.name}.log")
            shutil.rmtree(directory, ignore_errors=True)
            self._place.remove(group)
        return result

    def _command(self, peer: Peer) -> list[str]:
        if peer.name not in self._commands:
            self._commands[peer.name] = peer.command(self._directory)
        return self._commands[peer.name]

    def _environment(self, peer: Peer, group: str, directory: Path) -> dict[str, str]:
        return {
            "BENCH_BROKER": self._place.bootstrap,
            "BENCH_SOURCE": self._load.source,
            "BENCH_OUTPUT": f"{group}-out",
            "BENCH_CHANGELOG": f"{group}-log",
            "BENCH_GROUP": group,
            "BENCH_STATE": str(directory / "state"),
            "STREAMAPP_BROKER": self._place.bootstrap,
            "STREAMAPP_ID": group,
            "STREAMAPP_DATADIR": str(directory / "state"),
            "STREAMAPP_PARTITIONS": str(self._load.partitions),
            **peer.environment,
        }


def _measure(result: Round, program: Process, progress: Progress, load: Load, on_progress: OnProgress) -> None:
    """Fill in count, seconds, CPU and memory."""
    first = _until(program, progress, 1, START_BOUND_S, on_progress)
    if first == 0:
        raise StreamAppError(f"no commit within {START_BOUND_S:.0f} s of its start")
    warmed = _until(program, progress, load.warm, load.warm_s, on_progress)
    began, used = time.monotonic(), program.usage()
    done = _until(program, progress, load.warm + load.measured, load.measured_s, on_progress)
    result.seconds = time.monotonic() - began
    after = program.usage()
    result.transfers = done - warmed
    result.peak_mib = after.peak_mib
    if result.transfers <= 0:
        raise StreamAppError(f"no commit within {load.measured_s:.0f} s after {warmed:,} transfers")
    result.rate = result.transfers / result.seconds
    result.cpu_s_per_million = (after.cpu_s - used.cpu_s) / result.transfers * 1e6


def _until(program: Process, progress: Progress, count: int, bound_s: float, on_progress: OnProgress) -> int:
    """Wait until so many are committed, or for `bound_s`; how many are then."""
    give_up = time.monotonic() + bound_s
    while True:
        done = progress.total()
        on_progress(done)
        if done >= count or time.monotonic() > give_up:
            return done
        program.require_alive()
        time.sleep(POLL_S)


def _judge(result: Round, peer: Peer, verdict: job.Verdict) -> None:
    result.verdict = verdict
    if not verdict.holds(peer.exactly_once):
        result.problem = f"wrong answer: {verdict}"
        result.rate, result.wrong_rate = None, result.rate

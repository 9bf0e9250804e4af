"""How long nothing is committed after kill -9: on the state that was left there, and on none.

A million ids are processed, then transfers come in slowly; the program is killed in the middle and started again at
once. What is measured ends with the first commit of anything new.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import msgspec
from confluent_kafka import KafkaException

from bench import job
from bench.deployment import Deployment
from bench.peers.catalogue import Peer
from bench.place import Place, Progress
from bench.process import Process
from bench.rounds import START_BOUND_S, OnProgress, until_committed
from streamapp.errors import StreamAppError

IDS = 1_000_000
KILLS = 3
#: Transfers/s that come in meanwhile, which keep nobody busy.
_TRICKLE = 500.0
_FILL_BOUND_S = 150.0
_RESTART_BOUND_S = 90.0
_INSTANCE = "one"
#: What the killed one had asked for is committed within this; no program has started by then.
_LAST_WORDS_S = 0.25


class Restart(msgspec.Struct):
    """What one program needed."""

    peer: str
    #: Transfers that had been committed before the first kill, all on warm state.
    transfers: int = 0
    #: Seconds from each kill -9 to the first new commit.
    killed_s: list[float] = []
    #: Seconds from the start to the first new commit, after a stop in good order.
    stopped_s: float | None = None
    #: The same with the state directory gone.
    emptied_s: float | None = None
    #: Changelog records a second that this makes.
    restored_per_s: float | None = None
    problem: str | None = None


def measure(place: Place, peer: Peer, directory: Path, partitions: int, on_progress: OnProgress) -> Restart:
    """Fill, kill, restart; then stop, and start with and without the state."""
    source = f"bench-restart-{peer.name}-{os.getpid()}"
    result = Restart(peer.name)
    place.create(source, partitions=partitions)
    try:
        job.load(place.bootstrap, source, job.transfers(IDS * job.REPEAT_EVERY // (job.REPEAT_EVERY - 1)))
        with Deployment(place, peer, "restart", directory, source, partitions) as it, it.progress() as progress:
            _kills(it, progress, result, on_progress)
    except (StreamAppError, TimeoutError, KafkaException) as exc:
        result.problem = str(exc)
    finally:
        place.remove(source)
    return result


def _kills(it: Deployment, progress: Progress, result: Restart, on_progress: OnProgress) -> None:
    program = it.start(_INSTANCE)
    try:
        until_committed(program, progress, 1, START_BOUND_S, on_progress)
        result.transfers = until_committed(program, progress, IDS, _FILL_BOUND_S, on_progress)
        command = [sys.executable, "-m", "bench.sender", it.place.bootstrap, it.source, str(_TRICKLE)]
        with Process(command, {}, it.log.with_name("sender.log")):
            for _ in range(KILLS):
                _until_new(program, progress, 3 * int(_TRICKLE), on_progress)
                began = time.monotonic()
                program.kill()
                program = it.start(_INSTANCE)
                time.sleep(_LAST_WORDS_S)
                _until_new(program, progress, 1, on_progress)
                result.killed_s.append(time.monotonic() - began)
            program.stop()
            result.stopped_s = _start(it, progress, on_progress)
            it.forget_state()
            result.emptied_s = _start(it, progress, on_progress)
        if result.emptied_s > result.stopped_s:
            result.restored_per_s = progress.total() / (result.emptied_s - result.stopped_s)
    finally:
        program.kill()


def _start(it: Deployment, progress: Progress, on_progress: OnProgress) -> float:
    """Seconds from a start to the first new commit; stopped again in good order."""
    began = time.monotonic()
    with it.start(_INSTANCE) as program:
        _until_new(program, progress, 1, on_progress)
        seconds = time.monotonic() - began
        program.stop()
    return seconds


def _until_new(program: Process, progress: Progress, more: int, on_progress: OnProgress) -> None:
    """Wait for so many more commits than there are now."""
    wanted = progress.total() + more
    if until_committed(program, progress, wanted, _RESTART_BOUND_S, on_progress) < wanted:
        raise StreamAppError(f"nothing new was committed within {_RESTART_BOUND_S:.0f} s")

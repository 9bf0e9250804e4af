"""How our speed holds as things grow: partitions, keys, ids in the inbox, bytes a record, workers. Ours alone.

Every point is the reference job with one thing changed; a point's rounds follow one another, in the order of growth
and back again, so that a machine that slows down meanwhile shows in both.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from confluent_kafka import KafkaException

from bench import job, prefill
from bench.deployment import Deployment
from bench.peers.catalogue import CATALOGUE
from bench.place import Place
from bench.process import Crew, Process
from bench.rounds import Load, OnProgress, Round, judge, measure, until_committed
from streamapp.errors import StreamAppError

#: Dimension -> its points, the first is the start.
POINTS: dict[str, tuple[int, ...]] = {
    "partitions": (1, 4, 16, 64),
    "keys": (1_000, 100_000, 10_000_000),
    "ids": (0, 1_000_000, 10_000_000),
    "bytes": (100, 1_000, 10_000, 100_000),
    "workers": (1, 2, 4),
}
#: Of each round: records at most, bytes at most, seconds at most.
WARM, MEASURED = 60_000, 240_000
_INPUT_BYTES = 600 << 20
_WARM_S, _MEASURED_S = 6.0, 10.0
#: An ordinary record's size; `bytes` pads it.
_PLAIN_BYTES = 70
_PREFILL_BOUND_S = 240.0
_PEER = CATALOGUE["ours"]


class Point(msgspec.Struct):
    """A round at one point of a dimension."""

    dimension: str
    value: int
    result: Round
    #: Of prefilled ids: how many marks a second the worker restored.
    restored_per_s: float | None = None


class Shape(msgspec.Struct, frozen=True):
    """The reference job with one thing changed."""

    partitions: int = job.PARTITIONS
    keys: int = 1000
    ids: int = 0
    bytes: int = _PLAIN_BYTES
    workers: int = 1

    def records(self) -> tuple[int, int]:
        """Of the warm-up and measured."""
        fit = max(1000, _INPUT_BYTES // max(self.bytes, _PLAIN_BYTES))
        return min(WARM, fit // 4), min(MEASURED, fit)


class Growth:
    """The rounds of one run, on one broker. Results are told as they come."""

    def __init__(self, place: Place, directory: Path, rounds: int, tell: Callable[[Point], None]) -> None:
        self._place = place
        self._directory = directory
        self._rounds = rounds
        self._tell = tell

    def run(self, dimension: str, on_progress: OnProgress) -> None:
        """All points of a dimension."""
        if dimension == "ids":
            for ids in POINTS["ids"]:
                self._at_ids(ids, on_progress)
            return
        for number in range(1, self._rounds + 1):
            points = POINTS[dimension] if number % 2 else POINTS[dimension][::-1]
            for value in points:
                shape = msgspec.structs.replace(Shape(), **{dimension: value})
                label = f"{dimension}-{value}-{number}"
                with self._input(shape, label) as load:
                    result = self._round(shape, label, number, load, on_progress)
                self._tell(Point(dimension, value, result))

    @contextlib.contextmanager
    def _input(self, shape: Shape, label: str, first: int = 0) -> Iterator[Load]:
        source = f"bench-growth-{label}-{os.getpid()}"
        warm, measured = shape.records()
        self._place.create(source, partitions=shape.partitions)
        try:
            padding = max(0, shape.bytes - _PLAIN_BYTES)
            made = job.transfers(warm + measured, accounts=shape.keys, first=first, padding=padding)
            job.load(self._place.bootstrap, source, made)
            yield Load(source, shape.partitions, warm, measured, _WARM_S, _MEASURED_S)
        finally:
            self._place.remove(source)

    def _round(self, shape: Shape, label: str, number: int, load: Load, on_progress: OnProgress) -> Round:
        with Deployment(self._place, _PEER, label, self._directory, load.source, shape.partitions) as it:
            return self._measured(it, shape.workers, number, load, on_progress)

    def _measured(self, it: Deployment, workers: int, number: int, load: Load, on_progress: OnProgress) -> Round:
        result = Round(_PEER.name, number)
        try:
            with Crew(_started(it, workers)) as crew, it.progress() as progress:
                measure(result, crew, progress, load, on_progress)
                crew.stop()
                judge(result, _PEER, job.check(self._place.bootstrap, it.source, it.output, progress.offsets()))
        except (StreamAppError, TimeoutError, KafkaException) as exc:
            result.problem, result.rate = str(exc), None
        return result

    def _at_ids(self, ids: int, on_progress: OnProgress) -> None:
        """All rounds at so many ids: the worker restores them once, and each round starts it on that state."""
        shape = Shape(ids=ids)
        with Deployment(self._place, _PEER, f"ids-{ids}", self._directory, "none", shape.partitions) as it:
            restored_per_s = self._prefilled(it, ids, on_progress) if ids else None
            for number in range(1, self._rounds + 1):
                first = number * sum(shape.records())
                with self._input(shape, f"ids-{ids}-{number}", first) as load:
                    it.turn_to(load.source)
                    result = self._measured(it, 1, number, load, on_progress)
                self._tell(Point("ids", ids, result, restored_per_s))

    def _prefilled(self, it: Deployment, ids: int, on_progress: OnProgress) -> float:
        """Marks a second that a worker restored, from a changelog that holds so many, into the state it leaves."""
        prefill.fill(self._place, it.group, ids, it.partitions, on_progress)
        source = f"bench-growth-spark-{ids}-{os.getpid()}"
        self._place.create(source, partitions=it.partitions)
        try:
            # One transfer, whose commit says that the restore is over.
            job.load(self._place.bootstrap, source, job.transfers(1))
            it.turn_to(source)
            began = time.monotonic()
            with it.start() as program, it.progress() as progress:
                if not until_committed(program, progress, 1, _PREFILL_BOUND_S, on_progress):
                    raise StreamAppError(f"{ids:,} marks were not restored in {_PREFILL_BOUND_S:.0f} s")
                seconds = time.monotonic() - began
                program.stop()
            return ids / seconds
        finally:
            self._place.remove(source)


def _started(it: Deployment, workers: int) -> list[Process]:
    """One is a dynamic member, so that it may turn to another topic; several have a state directory each by name."""
    return [it.start(f"w{n}" if workers > 1 else None) for n in range(workers)]

"""End-to-end latency at half of a capacity: from when a record was due to be sent until its legs are read."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec
from confluent_kafka import KafkaException

from bench.legs import seen
from bench.peers.catalogue import Peer
from bench.place import Place
from bench.rounds import OnProgress
from streamapp.errors import StreamAppError

#: Seconds at the fixed rate before the measurement, and of it.
SETTLE_S, MEASURE_S = 6.0, 15.0


class Load(NamedTuple):
    """Transfers/s, which are half of the capacity of a program; 0 where that is not known."""

    half_of: str
    rate: float


class Latency(msgspec.Struct):
    """A round: milliseconds of all legs that were due in the measured time."""

    peer: str
    number: int
    rate: float
    #: Whose capacity this is half of. Empty in results from before capacity was measured: its throughput alone.
    half_of: str = ""
    legs: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None
    p999_ms: float | None = None
    max_ms: float | None = None
    #: Why there is no figure.
    problem: str | None = None


def measure(
    place: Place, peer: Peer, number: int, load: Load, directory: Path, partitions: int, on_progress: OnProgress
) -> Latency:
    """One round of `peer` under `load`."""
    result = Latency(peer.name, number, load.rate, load.half_of)
    if not load.rate:
        result.problem = f"the capacity of {load.half_of} is not known"
        return result
    label, span_s = f"latency-{number}-{load.half_of}", (SETTLE_S, MEASURE_S)
    try:
        legs = seen(place, peer, label, load.rate, span_s, directory, partitions, on_progress)
    except (StreamAppError, TimeoutError, KafkaException) as exc:
        result.problem = str(exc)
        return result
    return _filled(result, legs.latencies())


def _filled(result: Latency, found: list[int]) -> Latency:
    expected = result.rate * MEASURE_S * 2
    result.legs = len(found)
    if len(found) < 0.99 * expected:
        result.problem = f"{len(found):,} of {expected:,.0f} legs came: the rate is above its capacity here"
        return result
    result.p50_ms, result.p99_ms, result.p999_ms = (percentile(found, share) / 1e6 for share in (0.5, 0.99, 0.999))
    result.max_ms = found[-1] / 1e6
    return result


def percentile(ordered: list[int], share: float) -> int:
    """The smallest value that at least this share of the values is not above."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]

"""The most a program commits while records come in and its output is read: the capacity that latency takes half of.

The throughput of a round (`rounds.py`) is another thing: its input lies there before and nobody reads the output, so
the program has the processors nearly to itself. Half of that is not half a load once a sender and a reader share them.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from confluent_kafka import KafkaException

from bench.legs import seen
from bench.peers.catalogue import Peer
from bench.place import Place
from bench.rounds import OnProgress
from streamapp.errors import StreamAppError

#: Seconds before the measurement, and of it.
SETTLE_S, MEASURE_S = 4.0, 8.0


class Capacity(msgspec.Struct):
    """A round: transfers/s of which both legs were read in the measured time."""

    peer: str
    number: int
    rate: float | None = None
    #: Why there is no figure.
    problem: str | None = None


def measure(
    place: Place, peer: Peer, number: int, directory: Path, partitions: int, on_progress: OnProgress
) -> Capacity:
    """One round of `peer`, with a sender that keeps ahead of it."""
    span_s = (SETTLE_S, MEASURE_S)
    try:
        legs = seen(place, peer, f"capacity-{number}", None, span_s, directory, partitions, on_progress)
    except (StreamAppError, TimeoutError, KafkaException) as exc:
        return Capacity(peer.name, number, problem=str(exc))
    arrived = legs.arrived()
    if not arrived:
        return Capacity(peer.name, number, problem="no legs came in the measured time")
    return Capacity(peer.name, number, arrived / 2 / MEASURE_S)

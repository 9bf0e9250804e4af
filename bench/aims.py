"""What is wanted of the figures, and whether a run reached it. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import NamedTuple

from bench.results import GrowthResults, PointSummary, Results

COMMIT_INTERVAL_MS = 100.0
_NOTHING = PointSummary("", 0, 0, 0, None, None, None)


class Aim(NamedTuple):
    """One line: `value` is None where it was not measured."""

    text: str
    value: float | None
    bound: float
    #: Whether the bound is the least that is wanted, or the most.
    at_least: bool
    unit: str

    @property
    def reached(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound


def aims(results: Results) -> list[Aim]:
    """Of `make bench`."""
    return [*_speeds(results), *_latencies(results), *_restarts(results)]


def growth_aims(growth: GrowthResults) -> list[Aim]:
    """Of `make bench-growth`."""
    last = {one.dimension: one for one in sorted(growth.summaries, key=lambda one: one.value)}
    ids, partitions = last.get("ids", _NOTHING), last.get("partitions", _NOTHING)
    return [
        Aim("10,000,000 ids in the inbox: throughput of that at 0", ids.of_start, 0.7, True, "x"),
        Aim("64 partitions: throughput of that at 1", partitions.of_start, 0.7, True, "x"),
        Aim("peak memory of a worker at 10,000,000 ids", ids.peak_mib, 400.0, False, "MiB"),
    ]


def _speeds(results: Results) -> Iterator[Aim]:
    rate = {one.peer: one.rate for one in results.summaries}
    cpu = {one.peer: one.cpu_s_per_million for one in results.summaries}
    faust = results.summary("faust")
    if faust is not None and faust.rate is None:
        # A wrong answer has no speed, but what it was given at is the most it could have had.
        rate["faust"] = faust.wrong_rate
    yield Aim("an agent: throughput of Kafka Streams, 1 thread", _ratio(rate, "ours", "streams"), 1.25, True, "x")
    yield Aim("an agent: CPU a million of Kafka Streams, 1 thread", _ratio(cpu, "ours", "streams"), 1.0, False, "x")
    yield Aim("on batches: throughput of the librdkafka loop", _ratio(rate, "ours-batch", "librdkafka"), 0.8, True, "x")
    yield Aim("an agent: throughput of Quix Streams", _ratio(rate, "ours", "quix"), 4.0, True, "x")
    yield Aim("an agent: throughput of stock Faust, exactly_once", _ratio(rate, "ours", "faust"), 40.0, True, "x")
    once = _ratio(rate, "ours", "ours-alo")
    yield Aim(
        "an agent: exactly once costs of at least once", None if once is None else 100 * (1 - once), 20, False, "%"
    )


def _latencies(results: Results) -> Iterator[Aim]:
    own = {one.peer: one.p99_ms for one in results.latency_summaries if one.half_of in ("", one.peer)}
    same = {one.peer: one.p99_ms for one in results.latency_summaries if one.half_of == "streams"}
    ours = own.get("ours")
    intervals = None if ours is None else ours / COMMIT_INTERVAL_MS
    yield Aim("p99 end to end at half load, commit intervals", intervals, 2.5, False, "")
    ratio = _ratio(own, "ours", "streams")
    yield Aim("p99 end to end, each at half of its own capacity, of Kafka Streams", ratio, 1.0, False, "x")
    ratio = _ratio(same, "ours", "streams")
    yield Aim("p99 end to end, both at half of Kafka Streams' capacity, of Kafka Streams", ratio, 1.0, False, "x")


def _restarts(results: Results) -> Iterator[Aim]:
    killed = {one.peer: statistics.median(one.killed_s) if one.killed_s else None for one in results.restarts}
    ratio = _ratio(killed, "ours", "streams")
    yield Aim("kill -9 to the first commit, warm state, of Kafka Streams", ratio, 1.0, False, "x")


def _ratio(values: dict[str, float | None], one: str, other: str) -> float | None:
    above, below = values.get(one), values.get(other)
    return above / below if above and below else None

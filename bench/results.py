"""What a run found, as it is kept in `results.json`: machine, versions, commit, every round, medians and ratios."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from bench.capacity import Capacity
from bench.growth import Point
from bench.latency import Latency
from bench.restart import Restart
from bench.rounds import Round
from streamapp.embedded import disk, jars
from streamapp.embedded.kafka import java

#: What the others are compared with.
OURS = "ours"


class Summary(msgspec.Struct):
    """The medians of a program's rounds; null where no round had a right answer."""

    peer: str
    rounds: int
    right: int
    rate: float | None
    lowest: float | None
    highest: float | None
    cpu_s_per_million: float | None
    peak_mib: float | None
    #: How much faster `ours` was in this run.
    ours_to_it: float | None = None
    #: The median rate of its wrong answers, which is no speed.
    wrong_rate: float | None = None


class LatencySummary(msgspec.Struct):
    """The medians of a program's rounds of latency under one load, milliseconds."""

    peer: str
    rounds: int
    rate: float
    p50_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    #: Whose capacity the rate is half of (`Latency.half_of`).
    half_of: str = ""


class Results(msgspec.Struct):
    """A run of `make bench`."""

    began: str
    machine: dict[str, Any]
    versions: dict[str, str]
    commit: str
    load: dict[str, Any]
    rounds: list[Round] = []
    summaries: list[Summary] = []
    capacities: list[Capacity] = []
    latencies: list[Latency] = []
    latency_summaries: list[LatencySummary] = []
    restarts: list[Restart] = []
    #: Whether every round that was asked for is in it.
    complete: bool = False

    def save(self, path: Path) -> None:
        """Write it whole, medians and ratios anew."""
        self.summaries = summaries(self.rounds)
        self.latency_summaries = latency_summaries(self.latencies)
        disk.write_whole(path, msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")

    def summary(self, peer: str) -> Summary | None:
        """Of one program, if it ran."""
        return next((summary for summary in self.summaries if summary.peer == peer), None)

    def capacity(self, peer: str) -> float | None:
        """Transfers/s with a sender and a reader at work: the median of its rounds."""
        return _median(one.rate for one in self.capacities if one.peer == peer)


def loaded(path: Path) -> Results:
    """What a run wrote."""
    return msgspec.json.decode(path.read_bytes(), type=Results)


class PointSummary(msgspec.Struct):
    """The medians of the rounds at one point of a dimension."""

    dimension: str
    value: int
    rounds: int
    right: int
    rate: float | None
    peak_mib: float | None
    restored_per_s: float | None
    #: The rate as a share of that at the dimension's first point.
    of_start: float | None = None


class GrowthResults(msgspec.Struct):
    """A run of `make bench-growth`."""

    began: str
    machine: dict[str, Any]
    versions: dict[str, str]
    commit: str
    points: list[Point] = []
    summaries: list[PointSummary] = []
    complete: bool = False

    def save(self, path: Path) -> None:
        """Write it whole, medians anew."""
        self.summaries = point_summaries(self.points)
        disk.write_whole(path, msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")


def loaded_growth(path: Path) -> GrowthResults:
    """What a run wrote."""
    return msgspec.json.decode(path.read_bytes(), type=GrowthResults)


def point_summaries(points: Iterable[Point]) -> list[PointSummary]:
    """Medians by point, in order, as shares of each dimension's start."""
    by_point: dict[tuple[str, int], list[Point]] = {}
    for point in points:
        by_point.setdefault((point.dimension, point.value), []).append(point)
    made: list[PointSummary] = []
    starts: dict[str, float] = {}
    for (dimension, value), ran in sorted(by_point.items(), key=lambda item: item[0][1]):
        results = [point.result for point in ran]
        right = [one for one in results if one.rate is not None]
        rate = _median(one.rate for one in right)
        if rate:
            starts.setdefault(dimension, rate)
        made.append(
            PointSummary(
                dimension,
                value,
                len(ran),
                len(right),
                rate,
                _median(one.peak_mib for one in right),
                _median(point.restored_per_s for point in ran),
                rate / starts[dimension] if rate else None,
            )
        )
    order = list(dict.fromkeys(point.dimension for point in points))
    return sorted(made, key=lambda one: order.index(one.dimension))


def growth_begun() -> GrowthResults:
    """Results of a run that begins now, here."""
    return GrowthResults(_now(), _machine(), _versions(), _commit())


def summaries(rounds: Iterable[Round]) -> list[Summary]:
    """Medians by program, in the order of their first round, and how `ours` compares."""
    by_peer: dict[str, list[Round]] = {}
    for one in rounds:
        by_peer.setdefault(one.peer, []).append(one)
    made = [_summary(peer, ran) for peer, ran in by_peer.items()]
    ours = next((summary.rate for summary in made if summary.peer == OURS), None)
    for summary in made:
        if ours and summary.rate:
            summary.ours_to_it = ours / summary.rate
    return made


def _summary(peer: str, ran: list[Round]) -> Summary:
    right = [one for one in ran if one.rate is not None]
    rates = [one.rate for one in right if one.rate is not None]
    return Summary(
        peer,
        len(ran),
        len(right),
        _median(rates),
        min(rates, default=None),
        max(rates, default=None),
        _median(one.cpu_s_per_million for one in right),
        _median(one.peak_mib for one in right),
        wrong_rate=_median(one.wrong_rate for one in ran),
    )


def latency_summaries(latencies: Iterable[Latency]) -> list[LatencySummary]:
    """Medians by program and load."""
    by_load: dict[tuple[str, str], list[Latency]] = {}
    for one in latencies:
        by_load.setdefault((one.peer, one.half_of), []).append(one)
    return [
        LatencySummary(
            peer,
            len(ran),
            ran[0].rate,
            _median(one.p50_ms for one in ran),
            _median(one.p99_ms for one in ran),
            _median(one.p999_ms for one in ran),
            half_of,
        )
        for (peer, half_of), ran in by_load.items()
    ]


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def begun(load: dict[str, Any]) -> Results:
    """Results of a run that begins now, here."""
    return Results(
        _now(),
        _machine(),
        _versions(),
        _commit(),
        load,
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _machine() -> dict[str, Any]:
    names = [line for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = [int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")]
    return {
        "cores": os.cpu_count(),
        "processor": names[0].partition(":")[2].strip() if names else platform.processor(),
        "memory_gib": round(memory[0] / (1 << 20), 1) if memory else None,
        "system": f"{platform.system()} {platform.release()}",
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _versions() -> dict[str, str]:
    names = ("aiokafka", "confluent-kafka", "faust-streaming", "msgspec", "rocksdict")
    return {
        "python": platform.python_version(),
        "java": str(java()[1]),
        "kafka": jars.version(),
        **{name: metadata.version(name) for name in names},
        **_pinned("orjson", "quixstreams"),
    }


def _pinned(*names: str) -> dict[str, str]:
    """Versions of packages that live in the peers' environment."""
    lines = Path(__file__).with_name("constraints.txt").read_text().splitlines()
    found = (line.split()[0].partition("==") for line in lines if line[:1].isalpha())
    return {name: version for name, _, version in found if name in names}


def _commit() -> str:
    """The commit that is measured; with a plus sign when files differ from it."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")

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


class Results(msgspec.Struct):
    """A run of `make bench`."""

    began: str
    machine: dict[str, Any]
    versions: dict[str, str]
    commit: str
    load: dict[str, Any]
    rounds: list[Round] = []
    summaries: list[Summary] = []
    #: Whether every round that was asked for is in it.
    complete: bool = False

    def save(self, path: Path) -> None:
        """Write it whole, medians and ratios anew."""
        self.summaries = summaries(self.rounds)
        disk.write_whole(path, msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")


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


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def begun(load: dict[str, Any]) -> Results:
    """Results of a run that begins now, here."""
    return Results(
        datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        _machine(),
        _versions(),
        _commit(),
        load,
    )


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

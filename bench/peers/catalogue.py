"""Every program of the bench: how it is started, what it promises, and what it does not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench import java

PEERS_PYTHON = Path(".streamapp/bench/venv/bin/python")
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Peer:
    """One program. `command` is called once a run of the bench, with a directory it may build in."""

    name: str
    title: str
    command: Callable[[Path], list[str]]
    state: str
    #: What a reader should know before comparing it.
    lacks: str
    exactly_once: bool = True
    environment: dict[str, str] = field(default_factory=dict)
    #: Rounds at most: of the slow ones, that tell nothing new.
    rounds_max: int | None = None


def _ours(module: str) -> Callable[[Path], list[str]]:
    return lambda _: [
        sys.executable,
        "-m",
        "streamapp.cli",
        "worker",
        "--app",
        f"bench.peers.{module}",
        "-l",
        "warning",
    ]


def _loop(module: str) -> Callable[[Path], list[str]]:
    return lambda _: [sys.executable, "-m", f"bench.peers.{module}"]


def _peers_python(file: str, *arguments: str) -> Callable[[Path], list[str]]:
    return lambda _: [str(PEERS_PYTHON.absolute()), str(_HERE / file), *arguments]


def _streams(build: Path) -> list[str]:
    return [*java.compiled(build / "classes"), "-Xmx1g", "Streams"]


CATALOGUE: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("ours", "streamapp, an agent", _ours("ours"), "rocksdict, changelog", "nothing of the list below"),
        Peer(
            "ours-batch",
            "streamapp, an agent on batches",
            _ours("ours_batch"),
            "rocksdict, changelog",
            "a failing event's batch runs again one by one",
        ),
        Peer(
            "ours-alo",
            "streamapp, an agent, at least once",
            _ours("ours"),
            "rocksdict, changelog",
            "no transaction: a crash repeats outputs",
            exactly_once=False,
            environment={"STREAMAPP_PROCESSING_GUARANTEE": "at_least_once"},
        ),
        Peer(
            "streams",
            "Kafka Streams, 1 thread",
            _streams,
            "RocksDB, changelog",
            "ids are kept for ever; the content of a repeat is not compared; no dead letters",
            environment={"BENCH_THREADS": "1"},
        ),
        Peer(
            "streams-2",
            "Kafka Streams, 2 threads",
            _streams,
            "RocksDB, changelog",
            "as with one thread",
            environment={"BENCH_THREADS": "2"},
        ),
        Peer(
            "quix",
            "Quix Streams",
            _peers_python("quix.py"),
            "rocksdict, changelog",
            "the transaction is not fenced by the group's generation; ids are kept for ever; content is not compared",
        ),
        Peer(
            "librdkafka",
            "loop on librdkafka",
            _loop("librdkafka_loop"),
            "dictionary, changelog",
            "state is lost with the process: the changelog is never read; no dead letters, no rebalance",
        ),
    )
}
